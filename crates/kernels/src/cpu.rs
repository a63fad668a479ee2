//! What this CPU can run. Owning [`Avx2`], [`Avx512`] or [`Amx`] is the proof that its instructions exist here.

use std::fmt;
use std::fs;
use std::str::FromStr;

use crate::pool;

/// An instruction-set level. Later levels include the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isa {
    /// Plain Rust; runs anywhere.
    Portable,
    /// AVX2, FMA, F16C.
    Avx2,
    /// AVX-512 F, BW, DQ, VL with VNNI and BF16.
    Avx512,
    /// AVX-512 as above, and AMX tiles for int8 and bf16.
    Amx,
}

impl Isa {
    /// Every level, slowest first.
    pub const ALL: [Isa; 4] = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Amx];

    /// The best level this CPU offers.
    pub fn detect() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa::Portable)
    }

    /// Every level this CPU offers, slowest first.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    fn is_available(self) -> bool {
        match self {
            Isa::Portable => true,
            Isa::Avx2 => Avx2::detect().is_some(),
            Isa::Avx512 => Avx512::detect().is_some(),
            Isa::Amx => Amx::detect().is_some(),
        }
    }

    /// The name used by `--isa`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
            Isa::Amx => "amx",
        }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = String;
    fn from_str(s: &str) -> Result<Isa, String> {
        Isa::ALL.into_iter().find(|isa| isa.name() == s).ok_or_else(|| {
            let known = Isa::ALL.map(Isa::name).join(", ");
            format!("unknown instruction set {s:?}; known: {known}")
        })
    }
}

/// Proof that AVX2, FMA and F16C are present.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if this CPU can give it.
    pub fn detect() -> Option<Avx2> {
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2")
            && std::is_x86_feature_detected!("fma")
            && std::is_x86_feature_detected!("f16c")
        {
            return Some(Avx2(()));
        }
        None
    }
}

/// Proof that AVX-512 F/BW/DQ/VL, VNNI and BF16 are present (and AVX2 with them).
#[derive(Clone, Copy, Debug)]
pub struct Avx512 {
    units: Units,
}

/// What cores with AVX-512 differ in where it shows in a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Units {
    /// Intel's: 32-bit multiplications take two steps, and everything shares the units of dots.
    Shared,
    /// AMD's with halves of vectors (Zen 4): unpacking runs on units that dots do not use.
    Halves,
    /// AMD's with whole vectors (Zen 5): the same, with two dots at once.
    Whole,
}

impl Avx512 {
    /// The proof, if this CPU can give it.
    pub fn detect() -> Option<Avx512> {
        #[cfg(target_arch = "x86_64")]
        if Avx2::detect().is_some()
            && std::is_x86_feature_detected!("avx512f")
            && std::is_x86_feature_detected!("avx512bw")
            && std::is_x86_feature_detected!("avx512dq")
            && std::is_x86_feature_detected!("avx512vl")
            && std::is_x86_feature_detected!("avx512vnni")
            && std::is_x86_feature_detected!("avx512bf16")
        {
            // No other vendor with AVX-512 has SSE4a, and no core of AMD's before Zen 5 has VP2INTERSECT. The name of the
            // vendor would have to be asked for, which takes microseconds in a virtual machine.
            let units = match std::is_x86_feature_detected!("sse4a") {
                true if std::is_x86_feature_detected!("avx512vp2intersect") => Units::Whole,
                true => Units::Halves,
                false => Units::Shared,
            };
            return Some(Avx512 { units });
        }
        None
    }

    /// As if the core's units were these: all run the same instructions.
    #[cfg(test)]
    pub(crate) fn with(self, units: Units) -> Avx512 {
        Avx512 { units }
    }

    /// What the core's units are.
    pub(crate) fn units(self) -> Units {
        self.units
    }

    /// Whether they are AMD's.
    pub(crate) fn amd(self) -> bool {
        self.units != Units::Shared
    }
}

/// Proof that AMX tiles for int8 and bf16 are present and permitted (and AVX-512 with them).
#[derive(Clone, Copy, Debug)]
pub struct Amx(());

impl Amx {
    /// The proof, if this CPU and this operating system can give it.
    pub fn detect() -> Option<Amx> {
        #[cfg(target_arch = "x86_64")]
        if Avx512::detect().is_some() && crate::isa::amx::request() {
            return Some(Amx(()));
        }
        None
    }
}

/// The features of this CPU that any kernel asks about, and whether each is present.
pub fn features() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    return vec![
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("f16c", std::is_x86_feature_detected!("f16c")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx512bw", std::is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", std::is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", std::is_x86_feature_detected!("avx512bf16")),
        ("amx", Amx::detect().is_some()),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    Vec::new()
}

/// How many threads suit this process: the physical cores it may run on, and no more than its cgroup's quota.
pub fn default_threads() -> usize {
    let cores = physical_cores(&pool::allowed_cpus());
    let quota = cgroup_quota().map_or(usize::MAX, |quota| quota.ceil() as usize);
    cores.min(quota).max(1)
}

/// Counts cores, not their hyper-threads: two threads of one core share its multipliers.
fn physical_cores(cpus: &[usize]) -> usize {
    let mut firsts: Vec<String> = cpus
        .iter()
        .map(|cpu| {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            fs::read_to_string(path).unwrap_or_else(|_| cpu.to_string())
        })
        .collect();
    firsts.sort();
    firsts.dedup();
    firsts.len().max(1)
}

/// CPUs' worth of time that this process's control groups grant, where they limit it.
fn cgroup_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let quotas = groups.lines().flat_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next().unwrap_or("");
        let path = fields.next().unwrap_or("/");
        match controllers {
            "" => quotas_up(path, "/sys/fs/cgroup", quota_v2),
            list if list.split(',').any(|c| c == "cpu") => {
                quotas_up(path, &format!("/sys/fs/cgroup/{list}"), quota_v1)
            }
            _ => Vec::new(),
        }
    });
    quotas.reduce(f64::min)
}

/// The quotas of a group and of every group above it: the tightest one counts.
fn quotas_up(path: &str, root: &str, quota: impl Fn(&str) -> Option<f64>) -> Vec<f64> {
    let mut found = Vec::new();
    let mut path = path.trim_end_matches('/');
    loop {
        found.extend(quota(&format!("{root}{path}")));
        match path.rfind('/') {
            Some(cut) => path = &path[..cut],
            None => return found,
        }
    }
}

fn quota_v2(dir: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("{dir}/cpu.max")).ok()?;
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

fn quota_v1(dir: &str) -> Option<f64> {
    let quota = fs::read_to_string(format!("{dir}/cpu.cfs_quota_us")).ok()?;
    let period = fs::read_to_string(format!("{dir}/cpu.cfs_period_us")).ok()?;
    ratio(quota.trim(), period.trim())
}

/// `None` where the group sets no limit ("max", or a negative quota).
fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_levels_are_nested() {
        for isa in Isa::ALL {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
        assert!("sse9".parse::<Isa>().unwrap_err().contains("avx512"));
        let available = Isa::available();
        assert_eq!(available[..], Isa::ALL[..available.len()], "a level includes the ones before it");
    }

    #[test]
    fn quotas_are_ratios_and_absent_without_a_limit() {
        assert_eq!(ratio("150000", "100000"), Some(1.5));
        assert_eq!(ratio("max", "100000"), None);
        assert_eq!(ratio("-1", "100000"), None);
        let tightest = quotas_up("/a/b", "", |dir| match dir {
            "/a/b" => Some(4.0),
            "/a" => Some(2.0),
            _ => None,
        });
        assert_eq!(tightest, [4.0, 2.0]);
        assert!(default_threads() >= 1);
    }
}
