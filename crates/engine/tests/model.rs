//! The engine over real models: a request gets the same tokens and, bit for bit, the same log-probabilities in whatever
//! batch, chunks and steps it runs, on however many threads, from the cache or not, with speculation or without; on
//! every instruction set, in every kind of format.

use sampan_engine::{Engine, EngineOptions, Event, FinishReason, KvFormat, PAGE, Request, Sampling};
use sampan_fixtures::Family;
use sampan_kernels::{Format, Isa, Kernels, Options};
use sampan_model::{Adapter, Cache, CacheSizes, Chunk, Logits, Model, Plan, PlanOptions, Scratch};
use sampan_weights::gguf::Writer;
use sampan_weights::{AdapterFiles, Checkpoint, Dtype, Value};
use std::collections::HashMap;
use std::path::Path;
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

/// Writes a Qwen3 model of two layers with random weights; matrices in `format`, values and downward ones in `finer`, as
/// mixes have it, norms in F32.
fn write_model(path: &Path, format: Format, finer: Format) {
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
    let kind = |name: &str, shape: &[usize]| match shape.len() {
        1 => Format::F32,
        _ if name.ends_with("attn_v") || name.ends_with("ffn_down") => finer,
        _ => format,
    };
    for (name, shape) in &tensors {
        writer
            .tensor(&format!("{name}.weight"), shape, Dtype::Block(kind(name, shape)))
            .expect("a plain tensor");
    }
    let mut out = writer.create(path).expect("the folder is there");
    for (seed, (name, shape)) in tensors.iter().enumerate() {
        let norm = shape.len() == 1;
        let count = shape.iter().product();
        let values: Vec<f32> =
            random(seed as u64, count).map(|x| if norm { 1.0 + x / 4.0 } else { x / 8.0 }).collect();
        let format = kind(name, shape);
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
    let chunk =
        Chunk { tokens: &tokens, start: 0, pages: &pages, slot: 0, logits: Logits::All, adapter: None };
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

/// Tokens with their log-probabilities.
type Answer = Vec<(u32, f32)>;

/// Runs requests and returns each one's answer, and how many prompt tokens were cached.
fn run(engine: &mut Engine, requests: &[Request]) -> Vec<(Answer, usize)> {
    let ids: Vec<_> = requests.iter().map(|r| engine.submit(r.clone()).expect("fits")).collect();
    let mut answers = HashMap::new();
    let mut cached = HashMap::new();
    while !engine.is_idle() {
        for event in engine.step() {
            match event {
                Event::Started { .. } | Event::Prompt { .. } => {}
                Event::Token { id, token, logprob } => {
                    let logprob = logprob.expect("asked for").logprob;
                    answers.entry(id).or_insert_with(Vec::new).push((token, logprob));
                }
                Event::Finished { id, reason, usage, .. } => {
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
    Request { sampling, max_tokens: Some(TOKENS), ..Request::new(prompt.to_vec(), 1000, vocab) }
}

/// Random tokens.
fn ids(vocab: usize, seed: u64, n: usize) -> Vec<u32> {
    random(seed, n).map(|x| ((x + 1.0) / 2.0 * vocab as f32) as u32).collect()
}

/// A request of which the answer can be looked up in part: two tokens that take turns, at the model's whim.
fn chattering(prompt: &[u32], vocab: usize, temperature: f32) -> Request {
    let mut request = request(prompt, vocab, temperature);
    request.sampling.logit_bias = vec![(3, 1000.0), (5, 1000.0)];
    request.max_tokens = Some(3 * TOKENS);
    request
}

/// Requests of many lengths, some with a common beginning; greedy, drawn, and such as can be guessed.
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
    let penalised = Sampling { repeat_penalty: 1.2, frequency_penalty: 3.0, top_k: 7, ..Sampling::default() };
    for (n, temperature) in [(10, 0.0), (PAGE + 5, 0.0), (20, 1.0)] {
        let mut request = chattering(&ids(8, n), vocab, temperature);
        if temperature > 0.0 {
            request.sampling = Sampling { temperature, ..penalised.clone() };
            request.sampling.logit_bias = vec![(3, 1000.0), (5, 1000.0)];
            request.sampling.logprobs = Some(3);
        }
        requests.push(request);
    }
    requests
}

fn options(kv_format: KvFormat, pages: usize, max_batch_tokens: usize, max_running: usize) -> EngineOptions {
    EngineOptions { kv_format, pages, max_batch_tokens, max_running, ..EngineOptions::default() }
}

/// How requests are run.
#[derive(Clone, Copy, Debug)]
struct Way {
    threads: usize,
    /// Tokens in a step: where prompts are cut.
    budget: usize,
    pages: usize,
    running: usize,
    speculate: usize,
    /// Whether they are run a second time, and find what the first has left.
    again: bool,
}

const fn way(
    threads: usize,
    budget: usize,
    pages: usize,
    running: usize,
    speculate: usize,
    again: bool,
) -> Way {
    Way { threads, budget, pages, running, speculate, again }
}

const ALONE: Way = way(2, 512, 24, 1, 0, false);

/// Everything that may change when a request is run, and must not change what comes of it.
const WAYS: [Way; 9] = [
    way(2, 512, 80, 8, 0, true),
    way(2, 64, 80, 8, 4, false),
    way(2, 7, 80, 8, 0, false),
    way(2, 1, 24, 8, 0, false),
    // Pages run out, and requests are computed again.
    way(2, 32, 7, 8, 8, true),
    way(1, 100, 80, 3, 0, true),
    way(1, 512, 80, 1, 15, true),
    way(2, 64, 80, 2, 15, false),
    way(2, 7, 80, 1, 3, false),
];

/// The same in short.
const FEW: [Way; 2] = [way(2, 64, 80, 8, 4, true), way(1, 7, 24, 1, 15, false)];

/// A model on one thread and on two.
struct Models {
    name: String,
    models: [Arc<Model>; 2],
    kv: KvFormat,
}

impl Models {
    fn load(path: &Path, kernels: Options, kv: KvFormat) -> Models {
        let models = [1, 2].map(|threads| load(path, Options { threads, ..kernels }));
        Models { name: format!("{}, {kernels:?}, {kv:?}", path.display()), models, kv }
    }

    fn vocab(&self) -> usize {
        self.models[0].plan().vocab
    }

    fn engine(&self, way: Way) -> Engine {
        let options = options(self.kv, way.pages, way.budget, way.running);
        let model = Arc::clone(&self.models[way.threads - 1]);
        Engine::new(model, EngineOptions { speculate: way.speculate, ..options })
    }

    /// What each request gets alone, which is what plain passes over prompt and answer say.
    fn alone(&self, requests: &[Request]) -> Vec<Answer> {
        let alone = |request| run(&mut self.engine(ALONE), std::slice::from_ref(request)).remove(0).0;
        let answers: Vec<Answer> = requests.iter().map(alone).collect();
        let greedy = |request: &Request| request.sampling == self::request(&[], 0, 0.0).sampling;
        for (request, got) in requests.iter().zip(&answers).filter(|(request, _)| greedy(request)) {
            let want = plain(&self.models[1], self.kv, &request.prompt, got);
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                assert_eq!(got.0, want.0, "{}: token {i} after {}", self.name, request.prompt.len());
                assert!((got.1 - want.1).abs() < 1e-4, "log-probability {} and not {}", got.1, want.1);
            }
        }
        answers
    }

    fn check(&self, requests: &[Request], ways: &[Way]) {
        let alone = self.alone(requests);
        for &way in ways {
            let mut engine = self.engine(way);
            let fits = |r: &Request| r.prompt.len() + r.max_tokens.unwrap_or(0) <= way.pages * PAGE;
            let fitting: Vec<usize> = (0..requests.len()).filter(|&i| fits(&requests[i])).collect();
            let chosen: Vec<Request> = fitting.iter().map(|&i| requests[i].clone()).collect();
            for again in 0..=usize::from(way.again) {
                let got = run(&mut engine, &chosen);
                for (&i, (answer, cached)) in fitting.iter().zip(&got) {
                    let n = requests[i].prompt.len();
                    let case = format!("{}: {way:?}, pass {again}, request {i} of {n} tokens", self.name);
                    assert_eq!(answer, &alone[i], "{case}");
                    let roomy = way.pages == WAYS[0].pages;
                    assert!(
                        again == 0 || !roomy || *cached == (n - 1) / PAGE * PAGE,
                        "{case}: {cached} cached"
                    );
                }
            }
            let stats = engine.stats();
            let tried = way.speculate > 0 && self.models[0].plan().rewinds();
            assert_eq!(stats.accepted_tokens > 0, tried, "{}: {way:?}: {stats:?}", self.name);
            assert_eq!(
                stats.drafted_tokens > stats.accepted_tokens,
                tried,
                "{}: {way:?}: {stats:?}",
                self.name
            );
        }
    }
}

/// Checks everything. `long`: tokens of two more prompts, where the model's windows or its choice of keys need so many
/// to show what they do.
fn check(path: &Path, kernels: Options, kv: KvFormat, long: Option<usize>, ways: &[Way]) {
    let models = Models::load(path, kernels, kv);
    let vocab = models.vocab();
    let mut requests = requests(vocab);
    requests.extend(long.map(|n| request(&ids(vocab, 9, n), vocab, 0.0)));
    requests.extend(long.map(|n| chattering(&ids(vocab, 10, n), vocab, 0.0)));
    models.check(&requests, ways);
}

/// The second turn of a conversation goes on from the end of the first, and says what it says from the start.
fn check_turns(path: &Path, kernels: Options, kv: KvFormat) {
    let model = load(path, Options { threads: 2, ..kernels });
    let vocab = model.plan().vocab;
    let mut engine =
        Engine::new(Arc::clone(&model), EngineOptions { speculate: 8, ..options(kv, 40, 512, 4) });
    for (turn, found) in [(50, 96), (20, 96), (70, 96)] {
        let first = Request { max_tokens: Some(100 - turn), ..chattering(&ids(vocab, 20, turn), vocab, 0.0) };
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
fn a_request_gets_the_same_in_any_way_on_any_instruction_set() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (format, finer, kv) in [
        (Format::F32, Format::F32, KvFormat::F32),
        (Format::BF16, Format::BF16, KvFormat::Bf16),
        (Format::Q8_0, Format::Q8_0, KvFormat::F16),
        (Format::Q4_K, Format::Q6_K, KvFormat::I16),
        (Format::Q4_0, Format::Q4_0, KvFormat::Q8_0),
    ] {
        let path = folder.path().join(format!("{}.gguf", format.name()));
        write_model(&path, format, finer);
        for isa in Isa::available() {
            let ways = if isa == Isa::detect() { &WAYS[..] } else { &FEW };
            check(&path, Options { isa: Some(isa), ..Options::default() }, kv, None, ways);
        }
        check_turns(&path, Options::default(), kv);
    }
    let exact = Options { exact: true, ..Options::default() };
    check(&folder.path().join(format!("{}.gguf", Format::F32.name())), exact, KvFormat::Bf16, None, &FEW);
}

#[test]
fn a_request_gets_the_same_in_any_way_from_a_trained_model() {
    let mini = Path::new(env!("CARGO_MANIFEST_DIR")).join("../facade/assets/mini.gguf");
    check(&mini, Options::default(), KvFormat::I16, None, &WAYS);
    check_turns(&mini, Options::default(), KvFormat::I16);
}

/// Longer than the pages that a window's slot has, so that it begins again at its first.
const LONG: usize = 19 * PAGE - TOKENS;

fn check_family(family: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = Family::load(family).expect("the fixture is whole");
    fixture.write_checkpoint(folder.path()).expect("the folder is there");
    let exact = Options { exact: true, ..Options::default() };
    check(folder.path(), exact, KvFormat::F32, Some(LONG), &FEW);
    check(folder.path(), Options::default(), KvFormat::I16, None, &WAYS);
    check_turns(folder.path(), exact, KvFormat::I16);
}

#[test]
fn a_request_gets_the_same_in_any_way_from_a_model_in_mxfp4() {
    // Kept beside the repository; absent in a plain clone.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/golden/gpt_oss_mxfp4");
    if !folder.is_dir() {
        return println!("skipped: no folder {}", folder.display());
    }
    check(&folder, Options::default(), KvFormat::I16, None, &WAYS);
}

#[test]
fn a_request_gets_the_same_in_any_way_from_a_model_with_windows() {
    for family in ["gpt_oss", "gemma3", "gemma3n", "gemma4_e2b"] {
        check_family(family);
    }
}

#[test]
fn a_request_gets_the_same_in_any_way_from_a_recurrent_model() {
    check_family("qwen3_next");
    check_family("qwen3_5");
}

#[test]
fn a_request_gets_the_same_in_any_way_from_a_model_with_compressed_entries() {
    check_family("deepseek_v4");
}

#[test]
fn a_request_gets_the_same_in_any_way_from_a_model_with_latent_keys() {
    check_family("deepseek_v3");
    check_family("deepseek_v32");
}

#[test]
fn requests_with_adapters_get_the_same_beside_others_and_from_the_cache() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Family::load("qwen3").expect("whole").write_checkpoint(folder.path()).expect("the folder is there");
    let model = load(folder.path(), Options { threads: 2, ..Options::default() });
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/adapters/qwen3");
    let files = AdapterFiles::open(&fixtures).expect("the adapter is sound");
    let base = Checkpoint::open(folder.path()).expect("the folder is whole");
    let adapter = || Some(Arc::new(Adapter::load(&files, &model, &base).expect("made for the model")));
    let (first, second) = (adapter(), adapter());
    let mut requests = Vec::new();
    for adapter in [&None, &first, &second] {
        for (seed, length) in [(1, 2 * PAGE + 5), (1, 3 * PAGE), (2, 20)] {
            let prompt = ids(model.plan().vocab, seed, length);
            let request = request(&prompt, model.plan().vocab, 0.0);
            requests.push(Request { adapter: adapter.clone(), ..request });
        }
    }
    let engine = |running| Engine::new(Arc::clone(&model), options(KvFormat::I16, 60, 64, running));
    let alone = requests.iter().map(|r| run(&mut engine(1), std::slice::from_ref(r)).remove(0).0);
    let alone: Vec<Answer> = alone.collect();
    assert!(alone[..3] != alone[3..6] && alone[3..6] == alone[6..], "the adapter changes answers");
    let mut engine = engine(9);
    for pass in 0..2 {
        for (i, (answer, cached)) in run(&mut engine, &requests).into_iter().enumerate() {
            assert_eq!(answer, alone[i], "pass {pass}, request {i}");
            let whole = (requests[i].prompt.len() - 1) / PAGE * PAGE;
            let others = if i % 3 == 2 { 0 } else { 2 * PAGE };
            assert!(
                if pass == 1 { cached == whole } else { cached <= others },
                "pass {pass}, request {i}: {cached}"
            );
        }
    }
    let stats = engine.stats();
    // Each adapter, and the model alone, has computed the common beginning once.
    assert_eq!(stats.cached_tokens as usize, 3 * 2 * PAGE + 3 * (2 * PAGE + 2 * PAGE));
}

#[test]
fn golden_tokens_come_out_of_the_engine() {
    for family in ["qwen3", "llama", "qwen2", "gpt_oss", "gemma3", "qwen3_next", "deepseek_v4"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let fixture = Family::load(family).expect("the fixture is whole");
        fixture.write_checkpoint(folder.path()).expect("the folder is there");
        let golden = Checkpoint::open(&fixture.golden).expect("the golden file is sound");
        let ids = |name: &str| -> Vec<u32> {
            let ids = golden.tensor(name).expect("the golden file has it").to_i64s().expect("ids");
            ids.into_iter().map(|id| id as u32).collect()
        };
        let (prompt, greedy) = (ids("ids"), ids("greedy"));
        let model = load(folder.path(), Options { exact: true, threads: 2, ..Options::default() });
        let request = Request { max_tokens: Some(greedy.len()), ..request(&prompt, model.plan().vocab, 0.0) };
        for (budget, speculate) in [(1, 0), (7, 0), (512, 0), (512, 8)] {
            let options = EngineOptions { speculate, ..options(KvFormat::F32, 20, budget, 4) };
            let mut engine = Engine::new(Arc::clone(&model), options);
            for (answer, _) in run(&mut engine, &vec![request.clone(); 4]) {
                let tokens: Vec<u32> = answer.iter().map(|&(token, _)| token).collect();
                assert_eq!(tokens, greedy, "{family}, budget {budget}, {speculate} speculated");
            }
        }
    }
}
