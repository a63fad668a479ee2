//! A hub, a machine with an empty disk, and what can be done there.

#![allow(dead_code, reason = "not every test does all of it")]

use sampan_fixtures::hub::FakeHub;
use sampan_hub::{Error, Event, Hub, HubOptions, Listener, Local, ModelName, Origin, Plan, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) struct World {
    pub(crate) hub: FakeHub,
    folder: tempfile::TempDir,
    pub(crate) options: HubOptions,
}

impl World {
    pub(crate) fn new() -> World {
        let hub = FakeHub::new();
        let folder = tempfile::tempdir().unwrap();
        let options = HubOptions {
            cache: Some(folder.path().join("hub")),
            own: Some(folder.path().join("own")),
            ollama: vec![folder.path().join("ollama")],
            endpoint: hub.url(),
            modelscope: hub.url(),
            connections: 3,
            part: 64 << 10,
            attempts: 4,
            first_wait: Duration::from_millis(1),
            ..HubOptions::default()
        };
        World { hub, folder, options }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(&self.options).unwrap()
    }

    pub(crate) fn find(&self, name: &str) -> Option<Local> {
        self.store().find(&parse(name))
    }

    pub(crate) fn plan(&self, name: &str) -> Result<Plan, Error> {
        Hub::new(&self.options, &self.store()).plan(&parse(name), &|_| {})
    }

    pub(crate) fn pull(&self, name: &str) -> Result<Local, Error> {
        self.pull_heard(name, &|_: Event<'_>| {})
    }

    pub(crate) fn pull_heard(&self, name: &str, listener: Listener<'_>) -> Result<Local, Error> {
        let (store, name) = (self.store(), parse(name));
        let hub = Hub::new(&self.options, &store);
        let plan = hub.plan(&name, listener)?;
        hub.pull(&name, &plan, listener)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Names in a folder, separated by spaces.
    pub(crate) fn names(&self, folder: &str) -> String {
        let mut names: Vec<_> = fs::read_dir(self.path(folder))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names.join(" ")
    }

    /// How often a path with this part was asked for.
    pub(crate) fn asked(&self, part: &str) -> usize {
        self.hub.log().iter().filter(|seen| seen.path.contains(part)).count()
    }
}

pub(crate) fn parse(name: &str) -> ModelName {
    ModelName::parse(name, Origin::HuggingFace).unwrap()
}

/// Bytes that repeat nowhere.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let step = |_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u8
    };
    (0..length).map(step).collect()
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
