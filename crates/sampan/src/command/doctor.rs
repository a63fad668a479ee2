//! `sampan doctor`: what was found of this machine, and what was chosen for it.

use super::{print, print_json};
use crate::error::Result;
use crate::flags::MachineArgs;
use crate::render::{Facts, bytes, three_digits};
use clap::Args;
use sampan::machine;
use sampan_kernels::{Isa, Kernels, cpu, limits};
use serde_json::json;

/// Say what was found of this machine and what was chosen for it.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

pub(crate) fn run(args: DoctorArgs) -> Result<()> {
    let kernels = args.machine.options().kernels()?;
    let bandwidth = limits::measure_read_bandwidth(kernels.pool());
    if args.json {
        return print_json(&as_json(&kernels, bandwidth));
    }
    let mut facts = Facts::default();
    facts.add("sampan", env!("CARGO_PKG_VERSION"));
    facts.add("processor", machine::processor().unwrap_or_else(|| "unknown".into()));
    facts.add("features", features());
    facts.add("instruction set", isa_line(&kernels, args.machine.isa));
    facts.add("threads", threads_line(&kernels, args.machine.threads.is_some()));
    let caches: Vec<String> =
        machine::caches().iter().map(|c| format!("{} {}", c.name, bytes(c.bytes))).collect();
    facts.add("caches", if caches.is_empty() { "unknown".into() } else { caches.join(", ") });
    facts.add("memory", memory_line());
    facts.add(
        "read bandwidth",
        format!("{} GB/s measured on {} threads", three_digits(bandwidth / 1e9), kernels.pool().threads()),
    );
    print(&format!("{facts}\nkernels by weight format\n{}", kernels.table()))
}

fn features() -> String {
    let names: Vec<_> =
        cpu::features().into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect();
    if names.is_empty() { "none that sampan has kernels for".into() } else { names.join(" ") }
}

fn isa_line(kernels: &Kernels, asked: Option<Isa>) -> String {
    match asked {
        Some(_) => format!("{} (asked for; the best here is {})", kernels.isa(), Isa::detect()),
        None => format!("{} (the best that this processor has)", kernels.isa()),
    }
}

fn threads_line(kernels: &Kernels, asked: bool) -> String {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = kernels.pool().threads();
    match asked {
        true => format!("{threads} (asked for; {} by default)", cpu::default_threads()),
        false => format!("{threads} (physical cores this process may use; {logical} logical processors)"),
    }
}

fn memory_line() -> String {
    let total = machine::total_memory().map_or_else(|| "unknown".into(), bytes);
    match machine::available_memory() {
        Some(available) => {
            format!("{} available of {total} (limited by {})", bytes(available.bytes), available.limited_by)
        }
        None => total,
    }
}

fn as_json(kernels: &Kernels, bandwidth: f64) -> serde_json::Value {
    let features: serde_json::Map<_, _> =
        cpu::features().into_iter().map(|(name, present)| (name.to_owned(), present.into())).collect();
    let caches: Vec<_> = machine::caches()
        .into_iter()
        .map(|c| json!({"name": c.name, "bytes": c.bytes, "shared_by": c.shared_by}))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "processor": machine::processor(),
        "features": features,
        "isa": kernels.isa().name(),
        "threads": kernels.pool().threads(),
        "caches": caches,
        "memory": {
            "total_bytes": machine::total_memory(),
            "available_bytes": machine::available_memory().map(|m| m.bytes),
        },
        "read_bytes_per_s": bandwidth,
        "kernels": kernels.table().to_string(),
    })
}
