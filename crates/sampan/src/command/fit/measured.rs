//! What was measured of this machine for the catalogue, kept from one run to the next in a small file.

use crate::cli::Context;
use crate::flags::kv_name;
use crate::replace::replace;
use sampan::KvFormat;
use sampan::machine;
use sampan::rates::Rate;
use sampan::trial::Speeds;
use sampan_kernels::{Format, Kernels};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Rates of formats and speeds of the models that were tried, with what they are of.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Measured {
    /// Processor, caches, instruction set, threads, and the program: what has another one is another's.
    machine: String,
    /// When the first of it was measured, in seconds since 1970.
    pub(super) at: u64,
    /// Of weights of a format: bytes and operations per second.
    rates: BTreeMap<String, (f64, f64)>,
    /// Of a release: prompt and generated tokens per second.
    trials: BTreeMap<String, (f64, f64)>,
    #[serde(skip)]
    file: Option<PathBuf>,
    #[serde(skip)]
    changed: bool,
}

impl Measured {
    /// What is known of this machine; with `again` nothing is.
    pub(super) fn read(context: &Context, kernels: &Kernels, again: bool) -> Measured {
        let file = context.environment.cache_folder.as_ref().map(|folder| folder.join("measured.json"));
        Measured::of(describe(kernels), file, again)
    }

    /// A file that cannot be read, or is of another machine, is as good as none.
    fn of(machine: String, file: Option<PathBuf>, again: bool) -> Measured {
        let text = file.as_ref().filter(|_| !again).and_then(|file| std::fs::read(file).ok());
        let known = text.and_then(|text| serde_json::from_slice::<Measured>(&text).ok());
        let good = |(a, b): &(f64, f64)| [a, b].iter().all(|x| x.is_finite() && **x > 0.0);
        match known.filter(|known| known.machine == machine) {
            Some(known) if known.rates.values().chain(known.trials.values()).all(good) => {
                Measured { file, ..known }
            }
            _ => Measured { machine, at: now(), file, ..Measured::default() },
        }
    }

    /// Keeps what is new. Where nothing can be written, it is measured again the next time.
    pub(super) fn write(&self) {
        let (Some(file), true) = (&self.file, self.changed) else { return };
        let written = || {
            std::fs::create_dir_all(file.parent()?).ok()?;
            replace(file, &serde_json::to_string_pretty(self).ok()?).ok()
        };
        let _ = written();
    }

    /// Whether all of it is of now.
    pub(super) fn is_new(&self) -> bool {
        self.rates.is_empty() || now().saturating_sub(self.at) < 60
    }

    pub(super) fn rates(&self) -> Vec<(Format, Rate)> {
        let rate = |(name, &(bytes_per_s, operations_per_s)): (&String, &(f64, f64))| {
            Some((Format::from_name(name)?, Rate { bytes_per_s, operations_per_s }))
        };
        self.rates.iter().filter_map(rate).collect()
    }

    pub(super) fn keep_rates(&mut self, rates: &[(Format, Rate)]) {
        for (format, rate) in rates {
            let pair = (rate.bytes_per_s, rate.operations_per_s);
            self.changed |= self.rates.insert(format.name().to_owned(), pair).is_none();
        }
    }

    pub(super) fn trial(&self, release: &str, kv: KvFormat) -> Option<Speeds> {
        let &(prompt, generate) = self.trials.get(&key(release, kv))?;
        Some(Speeds { prompt, generate })
    }

    pub(super) fn keep_trial(&mut self, release: &str, kv: KvFormat, speeds: Speeds) {
        self.trials.insert(key(release, kv), (speeds.prompt, speeds.generate));
        self.changed = true;
    }
}

fn key(release: &str, kv: KvFormat) -> String {
    format!("{release} {}", kv_name(kv))
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).as_ref().map_or(0, Duration::as_secs)
}

/// All that speeds depend on besides the weather: also when the program was made, as its kernels may have changed.
fn describe(kernels: &Kernels) -> String {
    let caches: Vec<String> =
        machine::caches().iter().map(|level| format!("{} {}", level.name, level.bytes)).collect();
    let made = || std::fs::metadata(std::env::current_exe().ok()?).ok()?.modified().ok();
    let made = made().and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    format!(
        "{}; {}; {}; {} threads; sampan {} of {}",
        machine::processor().unwrap_or_default(),
        caches.join(", "),
        kernels.isa(),
        kernels.pool().threads(),
        env!("CARGO_PKG_VERSION"),
        made.unwrap_or_default().as_secs(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_is_known_again_on_the_same_machine_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("of/measured.json");
        let of = |machine: &str, again| Measured::of(machine.into(), Some(file.clone()), again);
        let rate = Rate { bytes_per_s: 1e10, operations_per_s: 1e11 };
        let speeds = Speeds { prompt: 100.0, generate: 20.0 };
        let mut measured = of("one", false);
        assert!(measured.is_new() && measured.rates().is_empty());
        measured.keep_rates(&[(Format::Q8_0, rate)]);
        measured.keep_trial("qwen3:4b", KvFormat::I16, speeds);
        measured.write();
        assert_eq!(of("one", false).rates(), [(Format::Q8_0, rate)]);
        assert_eq!(of("one", false).trial("qwen3:4b", KvFormat::I16), Some(speeds));
        assert_eq!(of("one", false).trial("qwen3:4b", KvFormat::F32), None);
        assert!(of("other", false).rates().is_empty() && of("one", true).rates().is_empty());
        let good = std::fs::read_to_string(&file).unwrap();
        for strange in ["", "[]", &good.replace("100.0", "-1.0"), &good.replace("100.0", "null")] {
            std::fs::write(&file, strange).unwrap();
            assert!(of("one", false).rates().is_empty(), "{strange}");
        }
    }
}
