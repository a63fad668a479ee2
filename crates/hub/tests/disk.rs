//! A store on a disk that is full, or that cannot be written, and what is left on it over time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/world.rs"]
mod world;

use sampan_hub::{Error, Event};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use world::{World, noise, read};

const SIZE: usize = 300_000;

fn quantised() -> World {
    let world = World::new();
    world.hub.publish("a/q", &[("x-Q8_0.gguf", &noise(5, SIZE))]);
    world
}

/// A disk of its own in memory; it is gone with the test. `None`, with a word about it, where this user may mount nothing.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf, bytes: usize) -> Option<SmallDisk> {
        fs::create_dir_all(&path).unwrap();
        let options = format!("size={bytes}");
        match mount(&["-t", "tmpfs", "-o", &options, "tmpfs"], &path) {
            true => Some(SmallDisk(path)),
            false => {
                println!("skipped: this user may not mount a disk of its own");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(arguments: &[&str], path: &Path) -> bool {
    let output = Command::new("mount").args(arguments).arg(path).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn a_disk_that_fills_up_while_a_file_comes_is_named_and_the_pull_goes_on_later() {
    let mut world = quantised();
    let Some(disk) = SmallDisk::new(world.path("disk"), 2 * SIZE) else { return };
    world.options.cache = Some(disk.0.join("hub"));
    let filler = disk.0.join("filler");
    // Others write too: the space is there when it is looked at, and gone when it is needed.
    let fill = |event: Event<'_>| {
        if matches!(event, Event::File { .. }) {
            fs::write(&filler, noise(1, SIZE + SIZE / 2)).unwrap();
        }
    };
    let error = world.pull_heard("a/q", &fill).unwrap_err();
    let Error::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.hint().contains("disk is full"), "{}", error.hint());
    assert!(world.find("a/q").is_none());
    let refused = world.pull("a/q").unwrap_err();
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    fs::remove_file(&filler).unwrap();
    assert_eq!(read(&world.pull("a/q").unwrap().path), noise(5, SIZE));
}

#[test]
fn a_store_that_is_read_only_serves_what_it_has() {
    let mut world = quantised();
    let Some(disk) = SmallDisk::new(world.path("disk"), 4 * SIZE) else { return };
    world.options.cache = Some(disk.0.join("hub"));
    let local = world.pull("a/q").unwrap();
    world.hub.publish("a/r", &[("y-Q8_0.gguf", &noise(6, SIZE))]);
    assert!(mount(&["-o", "remount,ro"], &disk.0));
    assert_eq!(world.find("a/q").map(|found| found.path), Some(local.path));
    let error = world.pull("a/r").unwrap_err();
    let Error::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), ErrorKind::ReadOnlyFilesystem, "{error}");
    assert!(error.hint().contains("HF_HOME"), "{}", error.hint());
}

/// The same for those who may not mount; root may write anywhere.
#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let mut world = quantised();
    let folder = world.path("locked");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.join("probe"), b"").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    world.options.cache = Some(folder.join("hub"));
    let error = world.pull("a/q").unwrap_err();
    assert!(error.to_string().contains("locked") && error.hint().contains("HF_HOME"), "{error}");
}

/// Blobs in the folder of a repository.
fn blobs(world: &World) -> usize {
    world.names("hub/models--a--q/blobs").split(' ').filter(|name| !name.is_empty()).count()
}

#[test]
fn an_older_state_of_a_branch_is_left_over_and_a_pinned_one_is_not() {
    let world = World::new();
    let readme: &[u8] = b"{}";
    let publish = |seed: u64| {
        world.hub.publish("a/q", &[("config.json", readme), ("model.safetensors", &noise(seed, SIZE))])
    };
    let first = publish(1);
    world.pull("a/q").unwrap();
    let pinned = publish(2);
    world.pull(&format!("a/q@{pinned}")).unwrap();
    world.pull("a/q").unwrap();
    let third = publish(3);
    let newest = world.pull("a/q").unwrap();
    assert_eq!(blobs(&world), 4, "config.json is one for all");
    let leftovers = world.store().leftovers();
    let found: Vec<_> = leftovers.iter().map(|l| (l.why, l.bytes >= SIZE as u64)).collect();
    assert_eq!(found, [("only an older state of its branch has it", true)]);
    world.store().collect(&leftovers).unwrap();
    assert_eq!(blobs(&world), 3);
    let find = |commit: &str| world.find(&format!("a/q@{commit}"));
    assert!(find(&first).is_none() && find(&pinned).is_some() && find(&third).is_some());
    assert_eq!(read(&newest.path.join("model.safetensors")), noise(3, SIZE));
    assert_eq!(read(&find(&pinned).unwrap().path.join("config.json")), readme);
    assert_eq!(world.store().leftovers(), []);
}

#[test]
fn without_a_digest_it_is_said_that_nothing_was_compared() {
    let world = quantised();
    let said = std::sync::Mutex::new(Vec::new());
    let listener = |event: Event<'_>| {
        if let Event::Unverified { path, digest } = event {
            said.lock().unwrap().push((path.to_owned(), digest.hex().to_owned()));
        }
    };
    world.pull_heard("a/q", &listener).unwrap();
    assert_eq!(*said.lock().unwrap(), []);
    let url = format!("{}/web/x-Q8_0.gguf", world.hub.url());
    assert!(!world.plan(&url).unwrap().has_digests() && world.plan("a/q").unwrap().has_digests());
    world.pull_heard(&url, &listener).unwrap();
    let digest = sampan_hub::Digest::Sha256(String::new()).of_bytes(&noise(5, SIZE));
    assert_eq!(*said.lock().unwrap(), [("x-Q8_0.gguf".to_owned(), digest.hex().to_owned())]);
}
