//! The engine over real models: the tokens and, bit for bit, the log-probabilities of plain passes over each request
//! alone, whatever the batch, the chunks, the cache and the number of threads.

use sampan_engine::{Engine, EngineOptions, Event, FinishReason, KvFormat, PAGE, Request, Sampling};
use sampan_kernels::{Format, Kernels, Options};
use sampan_model::{Cache, CacheSizes, Chunk, Logits, Model, Plan, PlanOptions, Scratch};
use sampan_weights::gguf::Writer;
use sampan_weights::{Checkpoint, Dtype, Value};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const VOCAB: usize = 300;
const TOKENS: usize = 12;

fn random(seed: u64, n: usize) -> impl Iterator<Item = f32> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n).map(move |_| {
        x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (x >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

/// Writes a Qwen3 model of two layers with random weights; matrices in `format`, norms in F32.
fn write_model(path: &Path, format: Format) {
    const HIDDEN: usize = 256;
    const FFN: usize = 256;
    let mut writer = Writer::new();
    let keys = [
        ("embedding_length", HIDDEN),
        ("block_count", 2),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 1),
        ("attention.key_length", 64),
        ("attention.value_length", 64),
        ("feed_forward_length", FFN),
        ("context_length", 4096),
    ];
    writer.set("general.architecture", Value::Str("qwen3".into())).expect("a plain key");
    for (key, value) in keys {
        writer.set(&format!("qwen3.{key}"), Value::U32(value as u32)).expect("a plain key");
    }
    for (key, value) in [("attention.layer_norm_rms_epsilon", 1e-6), ("rope.freq_base", 1e6)] {
        writer.set(&format!("qwen3.{key}"), Value::F32(value)).expect("a plain key");
    }
    let mut tensors =
        vec![("token_embd".to_owned(), vec![VOCAB, HIDDEN]), ("output_norm".to_owned(), vec![HIDDEN])];
    for layer in 0..2 {
        let parts = [
            ("attn_norm", vec![HIDDEN]),
            ("attn_q", vec![256, HIDDEN]),
            ("attn_k", vec![64, HIDDEN]),
            ("attn_v", vec![64, HIDDEN]),
            ("attn_output", vec![HIDDEN, 256]),
            ("attn_q_norm", vec![64]),
            ("attn_k_norm", vec![64]),
            ("ffn_norm", vec![HIDDEN]),
            ("ffn_gate", vec![FFN, HIDDEN]),
            ("ffn_up", vec![FFN, HIDDEN]),
            ("ffn_down", vec![HIDDEN, FFN]),
        ];
        tensors.extend(parts.map(|(name, shape)| (format!("blk.{layer}.{name}"), shape)));
    }
    let kind = |shape: &[usize]| if shape.len() == 1 { Format::F32 } else { format };
    for (name, shape) in &tensors {
        writer.tensor(&format!("{name}.weight"), shape, Dtype::Block(kind(shape))).expect("a plain tensor");
    }
    let mut out = writer.create(path).expect("the folder is there");
    for (seed, (name, shape)) in tensors.iter().enumerate() {
        let norm = shape.len() == 1;
        let count = shape.iter().product();
        let values: Vec<f32> =
            random(seed as u64, count).map(|x| if norm { 1.0 + x / 4.0 } else { x / 8.0 }).collect();
        let format = kind(shape);
        let mut bytes = vec![0; count / format.block_len() * format.block_bytes()];
        format.encode(&values, &mut bytes).expect("the format has an encoder");
        out.append(&format!("{name}.weight"), &bytes).expect("the tensor was declared");
    }
    out.finish().expect("all tensors are whole");
}

fn load(path: &Path, options: Options) -> Arc<Model> {
    let checkpoint = Checkpoint::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let exact = PlanOptions { exact: options.exact, ..PlanOptions::default() };
    let plan =
        Plan::from_checkpoint(&checkpoint, exact).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let kernels = Arc::new(Kernels::new(options).expect("the best level is there"));
    Arc::new(Model::load(&checkpoint, plan, kernels, &mut |_, _| {}).expect("the model is sound"))
}

/// The greedy token and its log-probability after each token of an answer, from one pass over prompt and answer.
fn plain(model: &Model, kv: KvFormat, prompt: &[u32], answer: &[(u32, f32)]) -> Vec<(u32, f32)> {
    let tokens: Vec<u32> = prompt.iter().copied().chain(answer.iter().map(|a| a.0)).collect();
    let pages: Vec<u32> = (0..tokens.len().div_ceil(PAGE) as u32).collect();
    let mut cache = Cache::new(model.plan(), CacheSizes { format: kv, pages: pages.len(), slots: 1 });
    let chunk = Chunk { tokens: &tokens, start: 0, pages: &pages, slot: 0, logits: Logits::All };
    let mut logits = Vec::new();
    model.forward(&[chunk], &mut cache, &mut Scratch::default(), &mut logits);
    let choose = |row: &[f32]| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let token = row.iter().position(|&x| x == max).expect("the maximum is there");
        let total: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
        (token as u32, -total.ln() as f32)
    };
    logits.chunks_exact(model.plan().vocab).skip(prompt.len() - 1).take(answer.len()).map(choose).collect()
}

/// Runs requests and returns each one's tokens with their log-probabilities, and how many prompt tokens were cached.
fn run(engine: &mut Engine, requests: &[Request]) -> Vec<(Vec<(u32, f32)>, usize)> {
    let ids: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).expect("fits")).collect();
    let mut answers = HashMap::new();
    let mut cached = HashMap::new();
    while !engine.is_idle() {
        for event in engine.step() {
            match event {
                Event::Started { .. } => {}
                Event::Token { id, token, logprob } => {
                    let logprob = logprob.expect("asked for").logprob;
                    answers.entry(id).or_insert_with(Vec::new).push((token, logprob));
                }
                Event::Finished { id, reason, usage } => {
                    assert_eq!(reason, FinishReason::Length);
                    cached.insert(id, usage.cached_tokens);
                }
            }
        }
    }
    assert_eq!(engine.check(), Ok(()));
    ids.iter().map(|id| (answers.remove(id).unwrap_or_default(), cached[id])).collect()
}

fn request(prompt: &[u32], vocab: usize, temperature: f32) -> Request {
    let sampling = Sampling { temperature, seed: 5, top_p: 0.95, logprobs: Some(0), ..Sampling::default() };
    let prompt = prompt.to_vec();
    Request {
        prompt,
        sampling,
        max_tokens: Some(TOKENS),
        stop_tokens: vec![],
        context: 1000,
        vocab_limit: vocab,
    }
}

/// Random tokens.
fn ids(vocab: usize, seed: u64, n: usize) -> Vec<u32> {
    random(seed, n).map(|x| ((x + 1.0) / 2.0 * vocab as f32) as u32).collect()
}

/// Requests of many lengths, some with a common beginning; greedy and drawn.
fn requests(vocab: usize) -> Vec<Request> {
    let ids = |seed, n| ids(vocab, seed, n);
    let shared = ids(1, 2 * PAGE + 3);
    let prompts = [
        ids(2, 1),
        ids(3, 5),
        shared.clone(),
        [shared.clone(), ids(4, 20)].concat(),
        ids(5, 100),
        ids(6, PAGE),
    ];
    let mut requests: Vec<Request> = prompts.iter().map(|prompt| request(prompt, vocab, 0.0)).collect();
    requests.push(request(&[shared, ids(7, 9)].concat(), vocab, 1.0));
    requests.push(request(&prompts[1], vocab, 1.0));
    requests
}

fn options(kv_format: KvFormat, pages: usize, max_batch_tokens: usize, max_running: usize) -> EngineOptions {
    EngineOptions { kv_format, pages, max_batch_tokens, max_running, ..EngineOptions::default() }
}

/// Everything that may change when a request is run, and must not change what comes of it. `long`: tokens of one more
/// prompt, where the model's windows or its choice of keys need so many to show what they do.
fn check(path: &Path, kernels: Options, kv: KvFormat, long: Option<usize>) {
    let model = load(path, Options { threads: 2, ..kernels });
    let vocab = model.plan().vocab;
    let mut requests = requests(vocab);
    requests.extend(long.map(|n| request(&ids(vocab, 9, n), vocab, 0.0)));
    let alone: Vec<_> = requests
        .iter()
        .map(|request| {
            let mut engine = Engine::new(Arc::clone(&model), options(kv, 20, 512, 1));
            run(&mut engine, std::slice::from_ref(request)).remove(0).0
        })
        .collect();
    for (request, got) in requests.iter().zip(&alone).filter(|(r, _)| r.sampling.temperature == 0.0) {
        let want = plain(&model, kv, &request.prompt, got);
        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!(got.0, want.0, "{}: token {i} after {} alone", path.display(), request.prompt.len());
            assert!((got.1 - want.1).abs() < 1e-4, "log-probability {} and not {}", got.1, want.1);
        }
    }
    let single = load(path, Options { threads: 1, ..kernels });
    for (model, budget, pages, running, passes) in [
        (&model, 512, 64, 8, &["first", "cached"][..]),
        (&model, 32, 64, 8, &["first"]),
        (&model, 7, 64, 8, &["first"]),
        (&model, 1, 18, 8, &["first"]),
        (&model, 32, 6, 8, &["first", "partly cached"]),
        (&single, 100, 64, 3, &["first", "cached"]),
    ] {
        let mut engine = Engine::new(Arc::clone(model), options(kv, pages, budget, running));
        let fits = requests.iter().take_while(|r| r.prompt.len() + TOKENS <= pages * PAGE).count();
        let requests = &requests[..fits];
        for &pass in passes {
            let got = run(&mut engine, requests);
            for ((request, got), want) in requests.iter().zip(&got).zip(&alone) {
                let case = format!("{}, budget {budget}, {pages} pages, {pass} pass", path.display());
                assert_eq!(&got.0, want, "{case}: {} tokens of prompt", request.prompt.len());
                if pass == "cached" {
                    assert_eq!(got.1, (request.prompt.len() - 1) / PAGE * PAGE, "{case}");
                }
            }
        }
    }
}

/// The second turn of a conversation goes on from the end of the first, and says what it says from the start.
fn check_turns(path: &Path, kernels: Options, kv: KvFormat) {
    let model = load(path, Options { threads: 2, ..kernels });
    let vocab = model.plan().vocab;
    let mut engine = Engine::new(Arc::clone(&model), options(kv, 40, 512, 4));
    for (turn, found) in [(50, 96), (20, 96), (70, 96)] {
        let first = Request { max_tokens: Some(100 - turn), ..request(&ids(vocab, 20, turn), vocab, 0.0) };
        let (answer, _) = run(&mut engine, std::slice::from_ref(&first)).remove(0);
        let answer = answer.iter().map(|&(token, _)| token);
        let prompt = [first.prompt, answer.collect(), ids(vocab, 21, turn)].concat();
        let second = [request(&prompt, vocab, 0.0)];
        let (got, cached) = run(&mut engine, &second).remove(0);
        let (want, _) = run(&mut Engine::new(Arc::clone(&model), options(kv, 40, 512, 1)), &second).remove(0);
        assert_eq!((got, cached), (want, found), "{}, {turn} tokens of prompt", path.display());
    }
}

#[test]
fn a_request_gets_the_same_from_any_batch_of_a_small_model() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for format in [Format::F32, Format::BF16, Format::Q8_0, Format::Q4_K] {
        let path = folder.path().join(format!("{}.gguf", format.name()));
        write_model(&path, format);
        let kv = if format == Format::F32 { KvFormat::F32 } else { KvFormat::F16 };
        check(&path, Options::default(), kv, None);
        check_turns(&path, Options::default(), kv);
    }
    check(
        &folder.path().join(format!("{}.gguf", Format::F32.name())),
        Options { exact: true, ..Options::default() },
        KvFormat::Bf16,
        None,
    );
}

/// The folder of a model that is kept beside the repository; absent in a plain clone.
fn golden(family: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden").join(family);
    if folder.is_dir() {
        return Some(folder);
    }
    println!("skipped: no folder {}", folder.display());
    None
}

/// Longer than the pages that a window's slot has, so that it begins again at its first.
const LONG: usize = 19 * PAGE - TOKENS;

fn check_family(family: &str) {
    let Some(folder) = golden(family) else { return };
    let exact = Options { exact: true, ..Options::default() };
    check(&folder, exact, KvFormat::F32, Some(LONG));
    check(&folder, Options::default(), KvFormat::F16, None);
    check_turns(&folder, exact, KvFormat::F16);
}

#[test]
fn a_request_gets_the_same_from_any_batch_of_a_model_with_windows() {
    for family in ["gpt_oss", "gpt_oss_mxfp4", "gemma3", "gemma3n", "gemma4_e2b"] {
        check_family(family);
    }
}

#[test]
fn a_request_gets_the_same_from_any_batch_of_a_recurrent_model() {
    check_family("qwen3_next");
    check_family("qwen3_5");
}

#[test]
fn a_request_gets_the_same_from_any_batch_of_a_model_with_compressed_entries() {
    check_family("deepseek_v4");
}

#[test]
fn a_request_gets_the_same_from_any_batch_of_a_model_with_latent_keys() {
    check_family("deepseek_v3");
    check_family("deepseek_v32");
}

#[test]
fn golden_tokens_come_out_of_the_engine() {
    let families = ["qwen3", "llama", "qwen2", "gpt_oss", "gemma3", "qwen3_next", "deepseek_v4"];
    for (family, folder) in families.iter().filter_map(|family| Some((family, golden(family)?))) {
        let golden = Checkpoint::open(&folder.join("golden.safetensors")).expect("the golden file is sound");
        let ids = |name: &str| -> Vec<u32> {
            let ids = golden.tensor(name).expect("the golden file has it").to_i64s().expect("ids");
            ids.into_iter().map(|id| id as u32).collect()
        };
        let (prompt, greedy) = (ids("ids"), ids("greedy"));
        let model = load(&folder, Options { exact: true, threads: 2, ..Options::default() });
        let request = Request { max_tokens: Some(greedy.len()), ..request(&prompt, model.plan().vocab, 0.0) };
        for budget in [1, 7, 512] {
            let mut engine = Engine::new(Arc::clone(&model), options(KvFormat::F32, 20, budget, 4));
            for (answer, _) in run(&mut engine, &vec![request.clone(); 4]) {
                let tokens: Vec<u32> = answer.iter().map(|&(token, _)| token).collect();
                assert_eq!(tokens, greedy, "{family}, budget {budget}");
            }
        }
    }
}
