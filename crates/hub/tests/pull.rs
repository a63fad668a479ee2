//! Models come from a hub: what is fetched, what goes wrong, and what is left when it does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/world.rs"]
mod world;

use sampan_fixtures::hub::{FakeHub, Fault};
use sampan_hub::{Error, Event};
use std::sync::Mutex;
use std::time::Duration;
use world::{World, noise, read};

const BIG: usize = 300_000;

fn sharded() -> (World, String) {
    let world = World::new();
    let index = br#"{"metadata": {}, "weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}"#;
    let commit = world.hub.publish(
        "a/b",
        &[
            ("config.json", b"{}"),
            ("tokenizer.json", b"{\"x\": 1}"),
            ("model.safetensors.index.json", index),
            ("m-1.safetensors", &noise(1, BIG)),
            ("m-2.safetensors", &noise(2, 5000)),
            ("pytorch_model.bin", &noise(3, 5000)),
            ("original/params.safetensors", &noise(4, 5000)),
        ],
    );
    (world, commit)
}

fn quantised() -> World {
    let world = World::new();
    let [q4, q8] = [noise(5, BIG), noise(6, 2 * BIG)];
    world.hub.publish(
        "a/q",
        &[("x-Q4_K_M.gguf", &q4), ("x-Q8_0.gguf", &q8), ("mmproj-x.gguf", b"no"), ("README.md", b"#")],
    );
    world
}

#[test]
fn a_model_comes_whole_and_nothing_else_does() {
    let (world, commit) = sharded();
    let plan = world.plan("a/b").unwrap();
    assert_eq!((plan.commit(), plan.missing, plan.missing_files), (commit.as_str(), plan.bytes, 5));
    let local = world.pull("a/b").unwrap();
    assert_eq!(local.path, world.path("hub/models--a--b/snapshots").join(&commit));
    assert_eq!(read(&local.path.join("m-1.safetensors")), noise(1, BIG));
    assert_eq!(read(&local.path.join("m-2.safetensors")), noise(2, 5000));
    let names = world.names(&format!("hub/models--a--b/snapshots/{commit}"));
    assert_eq!(
        names,
        "config.json m-1.safetensors m-2.safetensors model.safetensors.index.json tokenizer.json"
    );
    assert_eq!(read(&world.path("hub/models--a--b/refs/main")), commit.as_bytes());
    let blobs = world.names("hub/models--a--b/blobs");
    assert!(blobs.split(' ').all(|name| matches!(name.len(), 40 | 64)), "{blobs}");
    assert_eq!((world.asked("bin"), world.asked("original")), (0, 0));
    let ranges =
        world.hub.log().iter().filter(|seen| seen.path.contains("/storage/") && seen.from > Some(0)).count();
    assert!(ranges >= 4, "one file in ranges");
    assert_eq!(world.find("a/b"), Some(local.clone()));
    assert_eq!(world.find("a/b@main"), Some(local.clone()));
    assert_eq!(world.find(&format!("a/b@{commit}")), Some(local));
    assert_eq!(world.find("a/b:Q4_K_M"), None);
    let sent = world.hub.sent();
    world.pull("a/b").unwrap();
    assert!(world.hub.sent() < sent + 200, "only the index is read again, to know the shards");
}

#[test]
fn the_quantisation_asked_for_comes_alone() {
    let world = quantised();
    let local = world.pull("a/q:Q8_0").unwrap();
    assert_eq!(read(&local.path), noise(6, 2 * BIG));
    assert_eq!(world.find("a/q").unwrap().path, local.path, "what is here is what is meant");
    assert_eq!(world.find("a/q:Q4_K_M"), None);
    let local = world.pull("a/q").unwrap();
    assert_eq!(read(&local.path), noise(5, BIG));
    let error = world.pull("a/q:Q2_K").unwrap_err().to_string();
    assert!(error.contains("a/q has no Q2_K; it has Q4_K_M, Q8_0"), "{error}");
}

#[test]
fn what_others_fetched_is_used_and_verified() {
    let (world, commit) = sharded();
    let digest = |bytes: &[u8]| sampan_hub::Digest::Sha256(String::new()).of_bytes(bytes).hex().to_owned();
    let (good, bad) = (noise(1, BIG), noise(9, 5000));
    world.write(&format!("hub/models--a--b/blobs/{}", digest(&good)), &good);
    let blob = format!("hub/models--a--b/blobs/{}", digest(&noise(2, 5000)));
    world.write(&blob, &bad);
    let error = world.pull("a/b").unwrap_err();
    assert!(matches!(error, Error::WrongHash { .. }), "{error}");
    assert!(!world.path(&blob).exists() && world.find("a/b").is_none());
    let local = world.pull("a/b").unwrap();
    assert_eq!(read(&local.path.join("m-2.safetensors")), noise(2, 5000));
    assert_eq!(world.asked(&digest(&good)), 0);
    assert_eq!(local.commit, commit);
}

#[test]
fn a_moved_branch_is_followed_and_the_old_state_stays() {
    let world = World::new();
    let first = world.hub.publish("a/q", &[("x-Q8_0.gguf", &noise(1, 9000))]);
    let old = world.pull("a/q").unwrap();
    let second = world.hub.publish("a/q", &[("x-Q8_0.gguf", &noise(2, 9000))]);
    assert_eq!(world.find("a/q").unwrap().commit, first, "nothing is asked when it is here");
    assert_eq!(world.pull("a/q").unwrap().commit, second);
    assert_eq!(world.find("a/q").unwrap().commit, second);
    assert_eq!(world.find(&format!("a/q@{first}")).unwrap().path, old.path);
}

const API: &str = "/api/";
const RESOLVE: &str = "/resolve/";
const STORAGE: &str = "/storage/";
const ALWAYS: usize = 1000;

/// A fault of a part of the hub, how often it occurs, and how the pull ends: well (`Ok`), or with parts of an error and
/// of its hint. After that, and with the hub mended, a second pull has to succeed.
type Case = (&'static str, &'static str, Fault, usize, Result<(), (&'static [&'static str], &'static str)>);

fn faults(other: &str) -> Vec<Case> {
    let status = |status, headers: &[(&'static str, &str)]| {
        Fault::Status(status, headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
    };
    let to = |to: &str| Fault::Redirect(to.to_owned());
    let gated: &[(&str, &str)] = &[("X-Error-Code", "GatedRepo")];
    vec![
        ("busy for a while", STORAGE, status(503, &[]), 3, Ok(())),
        ("too many requests", STORAGE, status(429, &[("Retry-After", "0")]), 3, Ok(())),
        (
            "too many requests for long",
            STORAGE,
            status(429, &[("Retry-After", "3600")]),
            1,
            Err((&["3600 seconds"], "try again later")),
        ),
        (
            "broken for good",
            STORAGE,
            status(500, &[]),
            ALWAYS,
            Err((&["answers 500 for file x-Q4_K_M.gguf in a/q"], "goes on from there")),
        ),
        (
            "broken list",
            API,
            status(502, &[]),
            ALWAYS,
            Err((&["answers 502 for repository a/q"], "try again later")),
        ),
        ("cut", STORAGE, Fault::Cut(10_000), 10, Ok(())),
        (
            "cut at once, always",
            STORAGE,
            Fault::Cut(0),
            ALWAYS,
            Err((&["cannot reach 127.0.0.1"], "goes on from there")),
        ),
        ("silent", STORAGE, Fault::Stall(1000), 2, Ok(())),
        (
            "wrong bytes",
            STORAGE,
            Fault::Wrong,
            1,
            Err((&["x-Q4_K_M.gguf has sha256", "was promised", "set aside"], "pull again")),
        ),
        ("whole files only", STORAGE, Fault::NoRanges, ALWAYS, Ok(())),
        (
            "gone from storage",
            STORAGE,
            status(404, &[]),
            ALWAYS,
            Err((&["has no file x-Q4_K_M.gguf in a/q"], "check the spelling")),
        ),
        (
            "gated",
            RESOLVE,
            status(401, gated),
            1,
            Err((&["a/q is gated", "accepted its terms"], "/a/q, make a token")),
        ),
        ("token refused", API, status(401, &[]), 1, Err((&["wants a token"], "HF_TOKEN="))),
        ("forbidden", RESOLVE, status(403, &[]), 1, Err((&["may not read"], "HF_TOKEN"))),
        ("no such repository", API, status(404, &[]), 1, Err((&["has no repository a/q"], "HF_TOKEN"))),
        (
            "private, says the hub",
            API,
            status(401, &[("X-Error-Code", "RepoNotFound")]),
            1,
            Err((&["has no repository a/q"], "spelling")),
        ),
        (
            "into the cloud's own network",
            RESOLVE,
            to("http://169.254.169.254/latest/meta-data"),
            1,
            Err((&["redirects to http://169.254.169.254/", "not followed"], "HF_ENDPOINT")),
        ),
        ("to a router", RESOLVE, to("http://192.168.0.1/"), 1, Err((&["private network"], "HF_ENDPOINT"))),
        (
            "to a name of this machine",
            RESOLVE,
            to("http://localhost:1/x"),
            1,
            Err((&["private network"], "HF_ENDPOINT")),
        ),
        (
            "to an odd spelling of it",
            RESOLVE,
            to("http://[::ffff:127.0.0.1]:1/x"),
            1,
            Err((&["private network"], "HF_ENDPOINT")),
        ),
        (
            "to a file",
            RESOLVE,
            to("file:///etc/passwd"),
            1,
            Err((&["redirect to \"file:///etc/passwd\""], "HF_ENDPOINT")),
        ),
        ("in circles", RESOLVE, to("/a/q/resolve/x/y"), ALWAYS, Err((&["redirects"], ""))),
        ("to another port of the named host", RESOLVE, to(&format!("{other}/web/x-Q4_K_M.gguf")), 1, Ok(())),
        ("no JSON", API, Fault::Says("<html>".into()), 1, Err((&["cannot be used"], "proxy or a mirror"))),
        (
            "a commit that leads out",
            API,
            Fault::Says(r#"{"sha": "../../../x", "siblings": []}"#.into()),
            1,
            Err((&["is no commit"], "")),
        ),
        (
            "a file that leads out",
            API,
            listing("../../x-Q4_K_M.gguf", 5000),
            1,
            Err((&["no model that can be loaded"], "")),
        ),
        (
            "no digest",
            API,
            Fault::Says(format!(
                r#"{{"sha": "{}", "siblings": [{{"rfilename": "x.gguf", "size": 5}}]}}"#,
                "0".repeat(40)
            )),
            1,
            Err((&["without a size or a digest"], "")),
        ),
        (
            "larger than the disk",
            API,
            listing("x-Q4_K_M.gguf", 1 << 60),
            1,
            Err((&["MiB free", "are to be fetched"], "sampan gc")),
        ),
        (
            "only a pickle",
            API,
            Fault::Says(format!(
                r#"{{"sha": "{}", "siblings": [{{"rfilename": "pytorch_model.bin", "size": 5, "blobId": "{}"}}]}}"#,
                "0".repeat(40),
                "1".repeat(40)
            )),
            1,
            Err((&["pickle checkpoint"], "safetensors or GGUF")),
        ),
    ]
}

fn listing(path: &str, size: u64) -> Fault {
    let (commit, digest) = ("0".repeat(40), "1".repeat(64));
    Fault::Says(format!(
        r#"{{"sha": "{commit}", "siblings": [{{"rfilename": "{path}", "lfs": {{"sha256": "{digest}", "size": {size}}}}}]}}"#
    ))
}

#[test]
fn every_fault_is_overcome_or_explained_and_nothing_wrong_is_used() {
    let other = FakeHub::new();
    other.publish("o/o", &[("x-Q4_K_M.gguf", &noise(5, BIG))]);
    let mut wrong = Vec::new();
    for (what, part, fault, times, expected) in faults(&other.url()) {
        let mut world = quantised();
        world.options.patience = Duration::from_millis(500);
        world.hub.fault(part, fault, times);
        match (world.pull("a/q"), expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err((parts, hint))) => {
                let (text, advice) = (error.to_string(), error.hint());
                if !parts.iter().all(|part| text.contains(part))
                    || !advice.contains(hint)
                    || advice.is_empty()
                {
                    wrong.push(format!("{what}: {text}; {advice}"));
                }
                if world.find("a/q").is_some() {
                    wrong.push(format!("{what}: it is used all the same"));
                }
            }
            (Ok(local), Err(_)) => wrong.push(format!("{what}: {local:?}")),
            (Err(error), Ok(())) => wrong.push(format!("{what}: {error}")),
        }
        world.hub.mend();
        match world.pull("a/q") {
            Ok(local) if read(&local.path) == noise(5, BIG) => {}
            other => wrong.push(format!("{what}: afterwards {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_interrupted_pull_goes_on_where_it_was() {
    let mut world = quantised();
    world.options.attempts = 1;
    world.hub.fault("/storage/", Fault::Cut(50_000), 1);
    world.pull("a/q").unwrap_err();
    let entry = world.store().list().pop().unwrap();
    assert!(entry.unfinished && entry.bytes >= 50_000, "{entry:?}");
    let plan = world.plan("a/q").unwrap();
    assert!(plan.missing <= plan.bytes - 50_000);
    let before = world.hub.sent();
    let local = world.pull("a/q").unwrap();
    assert_eq!(read(&local.path), noise(5, BIG));
    assert!(world.hub.sent() - before <= (BIG - 50_000) as u64, "{} again", world.hub.sent() - before);
}

#[test]
fn of_two_pulls_at_once_one_waits_and_fetches_nothing() {
    let world = quantised();
    world.hub.fault("/storage/", Fault::Stall(20_000), 1);
    let waited = Mutex::new(0);
    let listener = |event: Event<'_>| {
        if matches!(event, Event::Waiting) {
            *waited.lock().unwrap() += 1;
            world.hub.mend();
        }
    };
    std::thread::scope(|scope| {
        let pulls = [0; 2].map(|_| scope.spawn(|| world.pull_heard("a/q", &listener).unwrap()));
        let found = pulls.map(|pull| pull.join().unwrap());
        assert_eq!(found[0], found[1]);
    });
    assert_eq!((world.hub.sent(), *waited.lock().unwrap()), (BIG as u64, 1));
}

#[test]
fn a_token_goes_to_the_endpoint_and_nowhere_else() {
    let other = FakeHub::new();
    other.publish("o/o", &[("x-Q4_K_M.gguf", &noise(5, BIG))]);
    let mut world = quantised();
    world.options.token = Some("secret".into());
    world.hub.fault("/resolve/", Fault::Redirect(format!("{}/web/x-Q4_K_M.gguf", other.url())), 1);
    world.pull("a/q").unwrap();
    assert!(world.hub.log().iter().all(|seen| seen.authorization.as_deref() == Some("Bearer secret")));
    assert!(!other.log().is_empty() && other.log().iter().all(|seen| seen.authorization.is_none()));
    world.hub.fault("/resolve/", Fault::Status(403, vec![("X-Error-Code", "GatedRepo".into())]), 1);
    let error = world.pull("a/q:Q8_0").unwrap_err().to_string();
    assert!(error.contains("has not been let in"), "{error}");
}

#[test]
fn offline_nothing_is_asked() {
    let mut world = quantised();
    world.pull("a/q").unwrap();
    world.options.offline = true;
    let asked = world.hub.log().len();
    assert!(world.find("a/q").is_some());
    let error = world.pull("a/q:Q8_0").unwrap_err();
    assert!(matches!(error, Error::Offline { .. }) && error.hint().contains("HF_HUB_OFFLINE"), "{error}");
    assert_eq!(world.hub.log().len(), asked);
}

#[test]
fn other_places_have_models_too() {
    let world = quantised();
    let local = world.pull("modelscope.cn/models/a/q:Q8_0").unwrap();
    assert!(local.path.starts_with(world.path("own/modelscope/models--a--q")), "{local:?}");
    assert_eq!(read(&local.path), noise(6, 2 * BIG));
    assert_eq!(world.find("a/q:Q8_0"), None);
    let url = format!("{}/web/x-Q4_K_M.gguf", world.hub.url());
    let local = world.pull(&url).unwrap();
    assert_eq!((world.find(&url), read(&local.path)), (Some(local.clone()), noise(5, BIG)));
    assert!(local.path.starts_with(world.path("own/web")));
    let sent = world.hub.sent();
    world.pull(&url).unwrap();
    assert!(world.hub.sent() <= sent + 1);
}

#[test]
fn a_store_that_cannot_be_written_says_so() {
    let mut world = quantised();
    world.write("file", b"");
    world.options.cache = Some(world.path("file/hub"));
    let error = world.pull("a/q").unwrap_err();
    assert!(error.to_string().contains("cannot make the folder"), "{error}");
    assert!(error.hint().contains("HF_HOME"));
    for (kind, hint) in [
        (std::io::ErrorKind::StorageFull, "disk is full"),
        (std::io::ErrorKind::ReadOnlyFilesystem, "HF_HOME"),
    ] {
        let error = Error::Io { doing: "write", path: "x".into(), source: kind.into() };
        assert!(error.hint().contains(hint), "{error}");
    }
    world.options.endpoint = "http://127.0.0.1:1".into();
    let error = world.pull("a/q").unwrap_err();
    assert!(
        error.to_string().contains("cannot reach 127.0.0.1") && error.hint().contains("HTTPS_PROXY"),
        "{error}"
    );
}
