//! Whatever a hub says, nothing panics, nothing is written outside the store, and no model is found but one whose bytes are
//! what was promised.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/world.rs"]
mod world;

use proptest::prelude::*;
use sampan_fixtures::hub::Fault;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use world::{World, noise, parse, read};

const FILE: &str = "x-Q8_0.gguf";
const BYTES: usize = 5000;

const INDEX: &str = r#"{"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;

/// Names and bytes.
type Files = Vec<(&'static str, Vec<u8>)>;

/// What is published: one file, and a model in two shards.
fn published() -> [(&'static str, Files); 2] {
    let shards = vec![
        ("config.json", b"{}".to_vec()),
        ("model.safetensors.index.json", INDEX.into()),
        ("m-1.safetensors", noise(2, BYTES)),
        ("m-2.safetensors", noise(3, BYTES)),
    ];
    [("a/b", vec![(FILE, noise(1, BYTES))]), ("a/s", shards)]
}

/// A hub with both, and the commits.
fn world() -> (World, [String; 2]) {
    let mut world = World::new();
    world.options.attempts = 2;
    let commits = published().map(|(repo, files)| {
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        world.hub.publish(repo, &files)
    });
    (world, commits)
}

/// Every file and link below a folder.
fn walk(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true => walk(&path, found),
            false => found.push(path.to_string_lossy().into_owned()),
        }
    }
}

/// Pulls, and looks at what that left: all of it in the two folders of the store, links leading to blobs beside them, and a
/// model only if its bytes are those of the hub.
fn pulls(world: &World, name: &str) {
    let root = world.path("");
    let outcome = world.pull(name);
    let mut all = Vec::new();
    walk(&root, &mut all);
    for path in &all {
        let inside = path.strip_prefix(&*root.to_string_lossy()).unwrap().trim_start_matches('/');
        assert!(inside.starts_with("hub/") || inside.starts_with("own/"), "{inside} is outside of the store");
        if let Ok(target) = fs::read_link(path) {
            let led = Path::new(path).parent().unwrap().join(&target).canonicalize();
            let blobs = led.is_ok_and(|led| led.parent().is_some_and(|folder| folder.ends_with("blobs")));
            assert!(blobs, "{path} leads to {target:?}");
        }
    }
    match outcome {
        Ok(local) if local.path.is_file() => assert_eq!(read(&local.path), noise(1, BYTES), "{local:?}"),
        Ok(local) => {
            for (name, bytes) in &published()[1].1 {
                assert_eq!(read(&local.path.join(name)), *bytes, "{name} of {local:?}");
            }
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && !error.hint().is_empty());
            assert_eq!(world.store().find(&parse(name)), None, "{error}");
        }
    }
    let _ = world.store().list();
    let _ = world.store().leftovers();
}

/// What a hub would say of a repository, which is what is changed.
fn honest(repo: usize, commit: &str, model_scope: bool) -> Value {
    let (_, files) = &published()[repo];
    let sibling = |(name, bytes): &(&str, Vec<u8>)| {
        let (sha256, size) = (sampan_hub::sha256(bytes), bytes.len());
        match model_scope {
            true => json!({"Path": name, "Type": "blob", "Size": size, "Sha256": sha256}),
            false => json!({"rfilename": name, "size": size, "blobId": "0".repeat(40),
                            "lfs": {"sha256": sha256, "size": size, "pointerSize": 134}}),
        }
    };
    let files: Vec<Value> = files.iter().map(sibling).collect();
    match model_scope {
        true => json!({"Code": 200, "Message": "", "Data": {"Files": files}}),
        false => json!({"sha": commit, "siblings": files}),
    }
}

fn strange() -> impl Strategy<Value = Value> {
    let texts = vec![
        "",
        ".",
        "..",
        "../../x-Q8_0.gguf",
        "/etc/passwd",
        "a/../../x-Q8_0.gguf",
        "C:\\x-Q8_0.gguf",
        "x-Q8_0.gguf/",
        "x-Q4_0.gguf",
        "x\u{0}-Q8_0.gguf",
        "../snapshots",
        "x-Q8_0.gguf.sampan-part",
        "main",
        "blobs/x-Q8_0.gguf",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "x-Q8_0-00001-of-99999.gguf",
        "x-Q8_0-00001-of-00002.gguf",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "../../../../aaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ];
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!(1e300)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof![
            Just(0),
            Just(1),
            Just(4999),
            Just(5001),
            Just(1u64 << 40),
            Just(1 << 62),
            Just(u64::MAX)
        ]
        .prop_map(Value::from),
        proptest::sample::select(texts).prop_map(Value::from),
        "[0-9a-f]{64}".prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
    ]
}

/// Puts a value in place of another somewhere in `tree`, chosen by `at`; or says one thing twice.
fn spoil(tree: &mut Value, at: usize, value: &Value) {
    match tree {
        Value::Object(fields) if !fields.is_empty() => {
            let key = fields.keys().nth(at % fields.len()).unwrap().clone();
            let (rest, inside) = (at / fields.len(), &mut fields[&key]);
            match inside {
                Value::Object(_) | Value::Array(_) if rest % 8 != 7 => spoil(inside, rest, value),
                _ => *inside = value.clone(),
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let (which, rest) = (at % (items.len() + 1), at / (items.len() + 1));
            match items.get(which).cloned() {
                Some(_) => spoil(&mut items[which], rest, value),
                None => {
                    let mut second = items[0].clone();
                    spoil(&mut second, rest, value);
                    items.push(second);
                }
            }
        }
        other => *other = value.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Listings that are nearly right: sizes, digests, commits, paths and whole branches are something else.
    #[test]
    fn listings_that_lie(
        repo in 0..2usize,
        model_scope: bool,
        changes in proptest::collection::vec((any::<usize>(), strange()), 0..4),
        cut in proptest::option::weighted(0.1, 0usize..300),
    ) {
        let (world, commits) = world();
        let mut said = honest(repo, &commits[repo], model_scope);
        changes.iter().for_each(|(at, value)| spoil(&mut said, *at, value));
        let mut text = said.to_string();
        if let Some(cut) = cut {
            text = text.chars().take(cut).collect();
        }
        world.hub.fault("/api/", Fault::Says(text), 1000);
        let place = ["a/b:Q8_0", "a/s"][repo];
        let name = if model_scope { format!("modelscope.cn/models/{place}") } else { place.to_owned() };
        pulls(&world, &name);
    }

    /// Answers to the request for a file: ranges of another place, sizes, marks and redirects that lead anywhere.
    #[test]
    fn answers_that_lie(
        status in proptest::sample::select(vec![200u16, 206, 204, 301, 302, 307, 416, 404, 429, 500, 999]),
        header in proptest::sample::select(vec![
            "Content-Range", "ETag", "X-Linked-ETag", "X-Linked-Size", "Location", "Retry-After", "X-Error-Code",
            "Content-Encoding", "Content-Type", "X-Repo-Commit",
        ]),
        value in prop_oneof![
            proptest::sample::select(vec![
                "", "bytes 0-4999/5000", "bytes 0-13/14", "bytes 1-4999/5000", "bytes */5000", "bytes 0-18446744073709551615/1",
                "bytes -1-5/x", "items 0-1/2", "\"\"", "W/\"../../x\"", "../../etc", "file:///etc/passwd", "/storage/../../x",
                "//127.0.0.2/x", "https://169.254.169.254/latest", "http://[::1]:1/", "http://0/", "gopher://x/", "gzip", "0",
                "Sun, 06 Nov 1994 08:49:37 GMT", "GatedRepo", "RepoNotFound",
            ]).prop_map(str::to_owned),
            "[ -~]{0,30}",
        ],
        times in proptest::sample::select(vec![1usize, 1000]),
        at in proptest::sample::select(vec!["/resolve/", "/storage/"]),
    ) {
        // Ten seconds and more are waited for, which is another test's.
        prop_assume!(header != "Retry-After" || value.trim().parse::<u64>().is_err());
        let (world, _) = world();
        world.hub.fault(at, Fault::Status(status, vec![(header, value)]), times);
        pulls(&world, "a/b:Q8_0");
    }

    /// What another program, or a hub that lied before, may have left in the store.
    #[test]
    fn a_store_that_lies(
        reference in prop_oneof![Just("../../../x".to_owned()), "[0-9a-f]{40}", ".{0,12}"],
        record in prop_oneof![Just("{}".to_owned()), ".{0,40}"],
        note in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (world, _) = world();
        let digest = sampan_hub::sha256(&noise(1, BYTES));
        world.write("hub/models--a--b/refs/main", reference.as_bytes());
        world.write("own/records/x.json", record.as_bytes());
        world.write(&format!("hub/models--a--b/blobs/{digest}.sampan-note"), &[b"sampan01", note.as_slice()].concat());
        world.write(&format!("hub/models--a--b/blobs/{digest}.sampan-part"), &noise(2, BYTES));
        pulls(&world, "a/b:Q8_0");
    }
}
