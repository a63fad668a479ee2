//! What the writers write, the readers read, and so do others' readers.

use sampan_kernels::Format;
use sampan_weights::{Array, Checkpoint, Dtype, Tensor, Value, gguf, safetensors};
use std::path::Path;

/// Reproducible bytes without structure.
fn noise(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn every_dtype() -> Vec<Dtype> {
    let mut all: Vec<Dtype> = Format::ALL.into_iter().map(Dtype::Block).collect();
    all.extend([
        Dtype::F64,
        Dtype::I8,
        Dtype::U8,
        Dtype::I16,
        Dtype::U16,
        Dtype::I32,
        Dtype::U32,
        Dtype::I64,
        Dtype::U64,
        Dtype::Bool,
        Dtype::F8E4M3,
        Dtype::F8E5M2,
        Dtype::F8E8M0,
        Dtype::F8E4M3Fnuz,
        Dtype::F8E5M2Fnuz,
        Dtype::C64,
        Dtype::F4,
        Dtype::F6E2M3,
        Dtype::F6E3M2,
    ]);
    all
}

/// The tensors a format can hold: two rows of 512 values of each type, as (name, type, data).
fn tensors(holds: impl Fn(Dtype) -> bool) -> Vec<(String, Dtype, Vec<u8>)> {
    let make = |(i, dtype): (usize, Dtype)| {
        let size =
            dtype.size(&[2, 512]).expect("the test's own files and tensors").expect("the size is known");
        (format!("t.{dtype}"), dtype, noise(size, i as u32))
    };
    every_dtype().into_iter().filter(|&dtype| holds(dtype)).enumerate().map(make).collect()
}

fn check_read_back(path: &Path, wrote: &[(String, Dtype, Vec<u8>)]) -> Checkpoint {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(checkpoint.tensors().count(), wrote.len());
    for (name, dtype, data) in wrote {
        let tensor = checkpoint.tensor(name).expect("written");
        assert_eq!((tensor.shape, tensor.dtype), (&[2, 512][..], *dtype), "{name}");
        assert_eq!(*tensor.bytes().expect("readable"), data[..], "{name}");
        if let Dtype::Block(format) = dtype {
            let mut values = vec![0.0; 1024];
            format.decode(data, &mut values);
            let same = tensor
                .to_f32()
                .expect("the test's own files and tensors")
                .iter()
                .zip(&values)
                .all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{name}");
        }
    }
    checkpoint
}

fn every_value() -> Vec<(&'static str, Value)> {
    vec![
        ("general.architecture", Value::Str("llama".into())),
        ("v.u8", Value::U8(255)),
        ("v.i8", Value::I8(-128)),
        ("v.u16", Value::U16(65535)),
        ("v.i16", Value::I16(-5)),
        ("v.u32", Value::U32(u32::MAX)),
        ("v.i32", Value::I32(i32::MIN)),
        ("v.u64", Value::U64(u64::MAX)),
        ("v.i64", Value::I64(i64::MIN)),
        ("v.f32", Value::F32(1e-30)),
        ("v.f64", Value::F64(-1e300)),
        ("v.bool", Value::Bool(true)),
        ("v.text", Value::Str("l'été – 夏".into())),
        ("a.u8", Value::Array(Array::U8(vec![1, 2]))),
        ("a.i8", Value::Array(Array::I8(vec![-1]))),
        ("a.u16", Value::Array(Array::U16(vec![500]))),
        ("a.i16", Value::Array(Array::I16(vec![-500]))),
        ("a.u32", Value::Array(Array::U32(vec![]))),
        ("a.i32", Value::Array(Array::I32(vec![-1, 0, 1]))),
        ("a.u64", Value::Array(Array::U64(vec![1 << 60]))),
        ("a.i64", Value::Array(Array::I64(vec![-(1 << 60)]))),
        ("a.f32", Value::Array(Array::F32(vec![0.5, f32::INFINITY]))),
        ("a.f64", Value::Array(Array::F64(vec![0.25]))),
        ("a.bool", Value::Array(Array::Bool(vec![true, false]))),
        ("a.text", Value::Array(Array::Str(vec!["".into(), "x".into()]))),
        ("a.nested", Value::Array(Array::Nested(vec![Array::U8(vec![1]), Array::Str(vec![])]))),
    ]
}

#[test]
fn gguf_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.gguf");
    let wrote = tensors(|dtype| dtype.ggml_id().is_some());
    assert_eq!(wrote.len(), 16 + 5);
    let mut writer = gguf::Writer::new();
    for (key, value) in every_value() {
        writer.set(key, value).unwrap();
    }
    for (name, dtype, _) in &wrote {
        writer.tensor(name, &[2, 512], *dtype).unwrap();
    }
    let in_memory = writer.to_bytes(|name| wrote.iter().find(|t| t.0 == name).expect("declared").2.clone());
    let mut file = writer.create(&path).unwrap();
    assert!(!path.exists(), "the name appears when the file is whole");
    for (name, _, data) in wrote.iter().rev() {
        for piece in data.chunks(1000) {
            file.append(name, piece).unwrap();
        }
    }
    file.finish().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    assert_eq!(std::fs::read(&path).unwrap(), in_memory.unwrap());

    let checkpoint = check_read_back(&path, &wrote);
    let read: Vec<_> = checkpoint.metadata().iter().map(|(k, v)| (k, v.clone())).collect();
    assert_eq!(read, every_value(), "keys, in order");
}

#[test]
fn getters_convert_widths_and_refuse_kinds() {
    let mut writer = gguf::Writer::new();
    for (key, value) in every_value() {
        writer.set(key, value).unwrap();
    }
    let bytes = writer.to_bytes(|_| vec![]).unwrap();
    let metadata = gguf::parse(Path::new("m.gguf"), &bytes).unwrap().metadata;
    assert_eq!(metadata.u64("v.u8").unwrap(), Some(255));
    assert_eq!(metadata.u64("v.u64").unwrap(), Some(u64::MAX));
    assert_eq!(metadata.f32("v.u16").unwrap(), Some(65535.0));
    assert_eq!(metadata.bool("v.bool").unwrap(), Some(true));
    assert_eq!(metadata.i64s("a.i32").unwrap(), Some(vec![-1, 0, 1]));
    assert_eq!(metadata.strs("a.u32").unwrap(), Some(&[][..]), "an empty array is of any type");
    assert_eq!(metadata.per_layer("v.u16", 2).unwrap(), Some(vec![65535; 2]));
    assert_eq!(metadata.per_layer("a.u8", 2).unwrap(), Some(vec![1, 2]));
    assert_eq!(metadata.per_layer_bool("a.bool", 2).unwrap(), Some(vec![true, false]));
    assert_eq!(metadata.per_layer_f32("a.f32", 2).unwrap(), Some(vec![0.5, f32::INFINITY]));
    assert_eq!(metadata.u64("absent").unwrap(), None);
    let refusals = [
        (metadata.u64("v.i8").map(drop), "an integer where an integer of at least 0 is needed"),
        (metadata.u64("v.text").map(drop), "a string where an integer"),
        (metadata.str("v.f32").map(drop), "a float where a string is needed"),
        (metadata.bool("v.u8").map(drop), "an integer where a boolean is needed"),
        (metadata.strs("a.f32").map(drop), "an array of floats where an array of strings"),
        (metadata.per_layer("a.u8", 3).map(drop), "2 values for 3 layers"),
        (metadata.per_layer("v.u8", 1 << 40).map(drop), "at most 65536"),
        (metadata.per_layer("a.i32", 3).map(drop), "at least 0"),
        (metadata.need_str("absent").map(drop), "missing"),
    ];
    for (result, part) in refusals {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part) && message.starts_with("m.gguf: metadata key"), "{message}");
    }
}

#[test]
fn safetensors_files_agree_with_the_reference_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("all.safetensors");
    let wrote = tensors(|dtype| dtype.safetensors_name().is_some());
    assert_eq!(wrote.len(), 22);
    let mut writer = safetensors::Writer::new();
    writer.set("format", "pt");
    for (name, dtype, _) in &wrote {
        writer.tensor(name, &[2, 512], *dtype).unwrap();
    }
    let mut file = writer.create(&path).unwrap();
    for (name, _, data) in &wrote {
        file.append(name, data).unwrap();
    }
    file.finish().unwrap();
    check_read_back(&path, &wrote);

    let bytes = std::fs::read(&path).unwrap();
    let theirs = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, dtype, data) in &wrote {
        let view = theirs.tensor(name).unwrap();
        assert_eq!((view.data(), view.shape()), (&data[..], &[2, 512][..]));
        assert_eq!(Dtype::from_safetensors(&view.dtype().to_string()), Some(*dtype));
        let start = view.data().as_ptr().addr() - bytes.as_ptr().addr();
        assert!(*dtype != Dtype::F64 || start.is_multiple_of(8), "wide types are aligned");
    }
}

#[test]
fn the_reference_writer_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("theirs.safetensors");
    let wrote = tensors(|dtype| dtype.safetensors_name().is_some());
    let views: Vec<_> = wrote
        .iter()
        .map(|(name, dtype, data)| {
            let quoted = format!("{:?}", dtype.safetensors_name().expect("filtered"));
            let dtype: ::safetensors::Dtype = serde_json::from_str(&quoted).unwrap();
            let view = ::safetensors::tensor::TensorView::new(dtype, vec![2, 512], data).unwrap();
            (name.clone(), view)
        })
        .collect();
    std::fs::write(&path, ::safetensors::serialize(views, None).unwrap()).unwrap();
    check_read_back(&path, &wrote);
}

#[test]
fn writers_refuse_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let f32s = Dtype::Block(Format::F32);
    let mut writer = gguf::Writer::new();
    writer.tensor("t", &[2], f32s).unwrap();
    let refusals = [
        (writer.tensor("t", &[2], f32s), "declared twice"),
        (writer.tensor("a", &[], f32s), "has not 1 to 4 dimensions"),
        (writer.tensor("b", &[1, 0], f32s), "of at least 1"),
        (writer.tensor("c", &[2, 33], Dtype::Block(Format::Q8_0)), "not whole Q8_0 blocks"),
        (writer.tensor("d", &[2], Dtype::Bool), "GGUF has no type BOOL"),
        (writer.tensor("e", &[2], Dtype::Unsupported(77)), "not known"),
        (writer.set("general.alignment", Value::U32(64)), "always 32"),
        (safetensors::Writer::new().tensor("f", &[256], Dtype::Block(Format::Q4_K)), "has no type Q4_K"),
        (safetensors::Writer::new().tensor("__metadata__", &[1], f32s), "taken"),
    ];
    for (result, part) in refusals {
        let message = result.unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let mut file = writer.create(&path).unwrap();
    assert!(file.append("u", &[0]).unwrap_err().to_string().contains("not declared"));
    assert!(file.append("t", &[0; 9]).unwrap_err().to_string().contains("has 8 bytes, not 9"));
    file.append("t", &[0; 4]).unwrap();
    assert!(file.finish().unwrap_err().to_string().contains("4 of 8 bytes"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// Values of the one-byte floats, from the definitions (and torch prints the same).
#[test]
fn small_floats() {
    let check = |dtype, pairs: &[(u8, f32)]| {
        for &(byte, value) in pairs {
            let data = [byte];
            let read = Tensor::new("t", &[1], dtype, &data).unwrap().to_f32().unwrap()[0];
            assert!(read == value || (read.is_nan() && value.is_nan()), "{dtype} {byte:#x}: {read}");
        }
    };
    let nan = f32::NAN;
    check(
        Dtype::F8E4M3,
        &[(0, 0.0), (1, 0.001953125), (0x38, 1.0), (0x7e, 448.0), (0xfe, -448.0), (0x7f, nan)],
    );
    check(Dtype::F8E5M2, &[(1, 2f32.powi(-16)), (0x3c, 1.0), (0x7b, 57344.0), (0x7c, f32::INFINITY)]);
    check(Dtype::F8E8M0, &[(127, 1.0), (128, 2.0), (0, 2f32.powi(-127)), (254, 2f32.powi(127)), (255, nan)]);
    check(Dtype::F8E4M3Fnuz, &[(0x80, nan), (0x40, 1.0), (0x7f, 240.0), (1, 0.0009765625)]);
    check(Dtype::F8E5M2Fnuz, &[(0x80, nan), (0x40, 1.0), (0x7f, 57344.0)]);
}

#[test]
fn integers() {
    let check = |dtype, data: &[u8], values: &[i64]| {
        let shape = [values.len()];
        assert_eq!(Tensor::new("t", &shape, dtype, data).unwrap().to_i64s().unwrap(), values, "{dtype}");
    };
    check(Dtype::I8, &[0xff, 1], &[-1, 1]);
    check(Dtype::U8, &[0xff], &[255]);
    check(Dtype::I16, &[0xfe, 0xff], &[-2]);
    check(Dtype::I32, &[0xfd, 0xff, 0xff, 0xff], &[-3]);
    check(Dtype::U32, &[0xff, 0xff, 0xff, 0xff], &[u32::MAX.into()]);
    check(Dtype::I64, &[0xff; 8], &[-1]);
    let shape = [1];
    let large = Tensor::new("t", &shape, Dtype::U64, &[0xff; 8]).unwrap();
    assert!(large.to_i64s().unwrap_err().to_string().contains("exceeds i64"));
    assert!(large.to_f32().is_err(), "64-bit integers are not rounded silently");
    assert!(Tensor::new("t", &shape, Dtype::I8, &[0; 2]).is_err());
}
