//! What a record looks like to read, and what it is called.

use serde_json::Value;
use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// The day in Greenwich, `2026-11-24`.
pub fn date(now: SystemTime) -> String {
    let days = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut day) = (1970, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, day + 1)
}

/// A short name of a machine: `xeon-amx-2core`.
pub fn folder_name(machine: &Value) -> String {
    let noise = ["intel", "amd", "cpu", "processor", "core", "with", "r", "tm", "unknown"];
    let processor = machine["processor"].as_str().unwrap_or_default().to_lowercase();
    let words = processor.split(|c: char| !c.is_ascii_alphanumeric());
    let kept: Vec<&str> = words.filter(|word| !word.is_empty() && !noise.contains(word)).take(3).collect();
    let cpu = if kept.is_empty() { "cpu".into() } else { kept.join("-") };
    let isa = machine["best_isa"].as_str().unwrap_or("portable");
    format!("{cpu}-{isa}-{}core", machine["cores"].as_u64().unwrap_or(1))
}

/// The record as tables.
pub fn markdown(record: &Value) -> String {
    let mut out = format!("# {}\n\n", heading(record));
    let runs = record["runs"].as_array().map_or(&[][..], Vec::as_slice);
    let first = runs.first().unwrap_or(&Value::Null);
    let commit = record["commit"].as_str().map_or(String::new(), |commit| format!(" ({commit})"));
    let _ = write!(out, "sampan {}{commit}, `sampan bench {}`, ", text(&first["sampan"]), flags(record));
    let _ = write!(out, "{} turns. ", first["repeat"]);
    if let Some(peer) = runs.iter().map(|run| &run["peer"]).find(|peer| peer.is_object()) {
        let (name, version) = (text(&peer["name"]), text(&peer["version"]));
        let _ = write!(
            out,
            "{name} is {version} with an f16 cache, measured in turns A B A B.\nIt says: {}",
            text(&peer["system"])
        );
    }
    out += "\n\nTokens per second; the ratio is that of the medians.\n\n";
    out += "| model | what | sampan min / median / max | llama.cpp min / median / max | ratio | of the limit |\n";
    out += "|---|---|---|---|---|---|\n";
    for run in runs {
        for row in rows(run) {
            let share = row["share_of_limit"]
                .as_f64()
                .map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
            line(&mut out, run, &text(&row["what"]), row, "tokens_per_s", &share);
        }
        if run["load"].is_object() {
            line(&mut out, run, "load to first token, seconds", &run["load"], "seconds", "");
        }
    }
    out += "\n| model | instruction set | cache | reads | int8 | bf16 | peak memory | the plan says | llama.cpp's |\n";
    out += "|---|---|---|---|---|---|---|---|---|\n";
    for run in runs {
        let _ = writeln!(out, "| {} |", machine_cells(run).join(" | "));
    }
    out
}

/// `2026-11-24, Intel(R) Xeon(R) Processor, 2 cores`
pub(crate) fn heading(record: &Value) -> String {
    let machine = &record["machine"];
    let cores = machine["cores"].as_u64().unwrap_or(1);
    let s = if cores == 1 { "" } else { "s" };
    format!("{}, {}, {cores} core{s}", text(&record["date"]), text(&machine["processor"]))
}

/// The rows of a run.
pub(crate) fn rows(run: &Value) -> &[Value] {
    run["rows"].as_array().map_or(&[], Vec::as_slice)
}

/// A string, or nothing.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// About three digits that count.
pub(crate) fn figure(value: f64) -> String {
    match value {
        v if v >= 99.95 => format!("{v:.0}"),
        v if v >= 9.995 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

fn flags(record: &Value) -> String {
    let flags = record["flags"].as_array().map_or(&[][..], Vec::as_slice);
    let words: Vec<String> = ["--compare".to_owned()].into_iter().chain(flags.iter().map(text)).collect();
    words.join(" ")
}

fn line(out: &mut String, run: &Value, what: &str, row: &Value, unit: &str, share: &str) {
    let three = |figures: &Value| match ["min", "median", "max"].map(|key| figures[key].as_f64()) {
        [Some(min), Some(median), Some(max)] => [min, median, max].map(figure).join(" / "),
        _ => String::new(),
    };
    let ratio = row["ratio"].as_f64().map_or(String::new(), |ratio| format!("{ratio:.2}"));
    let (ours, peer) = (three(&row[unit]), three(&row["peer"][unit]));
    let _ = writeln!(out, "| {} | {what} | {ours} | {peer} | {ratio} | {share} |", text(&run["model"]));
}

fn machine_cells(run: &Value) -> [String; 9] {
    let mib =
        |value: &Value| value.as_u64().map_or(String::new(), |n| format!("{} MiB", n.div_ceil(1 << 20)));
    let limits = &run["limits"];
    let peak = |peak: &Value| {
        let giga = peak["operations_per_s"].as_f64().unwrap_or(0.0) / 1e9;
        format!("{giga:.0} G op/s, {}", text(&peak["instructions"]))
    };
    let mut int8 = peak(&limits["dot_products"]["int8"]);
    if limits["int8_without_tiles"].is_object() {
        int8 += &format!("; {}", peak(&limits["int8_without_tiles"]));
    }
    let reads = limits["read_bytes_per_s"].as_f64().unwrap_or(0.0) / 1e9;
    [
        text(&run["model"]),
        format!("{}, {} threads", text(&run["isa"]), run["threads"]),
        text(&run["kv"]),
        format!("{reads:.1} GB/s"),
        int8,
        peak(&limits["dot_products"]["bf16"]),
        mib(&run["memory"]["peak_bytes"]),
        mib(&run["memory"]["planned_bytes"]),
        mib(&run["peer"]["peak_bytes"]),
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    /// A record with everything that one can have.
    pub(crate) fn sample() -> Value {
        let spread = |least: f64| json!({"min": least, "median": 2.0 * least, "max": 3.0 * least, "all": []});
        json!({
            "date": "2026-11-24", "commit": "abc1234", "flags": ["--depth", "4096"],
            "machine": {"processor": "Intel(R) Xeon(R) Processor", "cores": 2, "best_isa": "amx"},
            "runs": [{
                "sampan": "0.1.0", "model": "<small>.gguf", "isa": "amx", "threads": 2, "kv": "f16", "repeat": 5,
                "limits": {"read_bytes_per_s": 35.5e9, "dot_products": {
                    "int8": {"operations_per_s": 4.0e12, "instructions": "AMX int8 tiles"},
                    "bf16": {"operations_per_s": 2.0e12, "instructions": "AMX bf16 tiles"},
                }, "int8_without_tiles": {"operations_per_s": 1.5e12, "instructions": "AVX-512 VNNI"}},
                "rows": [
                    {"what": "prompt 512", "kind": "prompt", "tokens_per_s": spread(400.0), "ratio": 4.0,
                     "peer": {"tokens_per_s": spread(100.0)}, "limit_tokens_per_s": 1600.0, "share_of_limit": 0.5},
                    {"what": "generate 64 after 8", "kind": "generate", "tokens_per_s": spread(30.0), "ratio": 1.5,
                     "peer": {"tokens_per_s": spread(20.0)}, "limit_tokens_per_s": 50.0, "share_of_limit": 1.2},
                ],
                "load": {"seconds": spread(0.25), "peer": {"seconds": spread(0.5)}, "ratio": 2.0},
                "memory": {"peak_bytes": 500 << 20, "planned_bytes": 490 << 20},
                "peer": {"name": "llama.cpp", "version": "llama-cpp-python 0.3.36", "system": "AVX2 = 1",
                         "peak_bytes": 700 << 20},
            }],
        })
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (789, "1972-02-29"),
            (11_016, "2000-02-29"),
            (20_781, "2026-11-24"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            let at = |seconds: u64| date(UNIX_EPOCH + Duration::from_secs(86_400 * days + seconds));
            assert_eq!((at(0).as_str(), at(86_399).as_str()), (expected, expected));
        }
    }

    #[test]
    fn machines_have_short_names() {
        for (processor, isa, cores, name) in [
            ("Intel(R) Xeon(R) Processor", "amx", 2, "xeon-amx-2core"),
            ("AMD EPYC 9755 128-Core Processor", "avx512", 128, "epyc-9755-128-avx512-128core"),
            ("", "portable", 1, "cpu-portable-1core"),
        ] {
            assert_eq!(folder_name(&json!({"processor": processor, "best_isa": isa, "cores": cores})), name);
        }
    }

    #[test]
    fn a_record_reads_as_tables() {
        let text = markdown(&sample());
        for part in [
            "# 2026-11-24, Intel(R) Xeon(R) Processor, 2 cores\n",
            "sampan 0.1.0 (abc1234), `sampan bench --compare --depth 4096`, 5 turns.",
            "llama.cpp is llama-cpp-python 0.3.36 with an f16 cache",
            "| <small>.gguf | prompt 512 | 400 / 800 / 1200 | 100 / 200 / 300 | 4.00 | 50 % |\n",
            "| <small>.gguf | generate 64 after 8 | 30.0 / 60.0 / 90.0 | 20.0 / 40.0 / 60.0 | 1.50 | 120 % |\n",
            "| <small>.gguf | load to first token, seconds | 0.25 / 0.50 / 0.75 | 0.50 / 1.00 / 1.50 | 2.00 |  |\n",
            "| amx, 2 threads | f16 | 35.5 GB/s | 4000 G op/s, AMX int8 tiles; 1500 G op/s, AVX-512 VNNI | 2000",
            "| 500 MiB | 490 MiB | 700 MiB |\n",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }
}
