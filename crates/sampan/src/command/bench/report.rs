//! What was measured, as a table and as JSON: every speed beside the limit that it has here.

use super::compare::About;
use super::limits::{Cost, Limits, Peak};
use super::row::{Kind, Row};
use crate::flags::kv_name;
use crate::render::{self, Facts, bytes, count, grouped, three_digits};
use sampan::{Memory, Prepared, machine};
use sampan_kernels::limits::Arithmetic;
use sampan_kernels::{Isa, cpu};
use serde_json::{Value, json};

/// Figures of several turns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
    /// In the order of the turns.
    pub(super) all: Vec<f64>,
}

/// One row, turn by turn.
#[derive(Debug)]
pub(super) struct Measured {
    /// Tokens per second: ours, then the peer's.
    pub(super) runners: Vec<Spread>,
    /// Tokens per second that the machine allowed, before and after our turns.
    pub(super) limits: Spread,
}

impl Measured {
    /// The part of the limit beside it that we reached, of each turn.
    fn shares(&self) -> Spread {
        let ours = self.runners.first().map_or(&[][..], |ours| &ours.all);
        Spread::of(ours.iter().zip(&self.limits.all).map(|(speed, limit)| speed / limit).collect())
    }
}

impl Spread {
    pub(super) fn of(all: Vec<f64>) -> Spread {
        let mut sorted = all.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |i: usize| sorted.get(i).copied().unwrap_or(0.0);
        let n = sorted.len().max(1);
        Spread { min: at(0), median: (at((n - 1) / 2) + at(n / 2)) / 2.0, max: at(n - 1), all }
    }

    fn text(&self) -> String {
        [self.min, self.median, self.max].map(three_digits).join(" / ")
    }

    fn json(&self) -> Value {
        json!({"min": self.min, "median": self.median, "max": self.max, "all": self.all})
    }
}

pub(super) struct Report<'a> {
    pub(super) prepared: &'a Prepared,
    pub(super) limits: Limits,
    pub(super) rows: &'a [Row],
    pub(super) measured: Vec<Measured>,
    /// Seconds to the first token: ours, then the peer's.
    pub(super) load: Option<Vec<Spread>>,
    pub(super) planned: Memory,
    pub(super) peak: Option<u64>,
    pub(super) peer: Option<About>,
    pub(super) repeat: u32,
}

impl Report<'_> {
    pub(super) fn text(&self) -> String {
        let mut header = vec!["what", "tokens/s min / median / max", "of the limit", "a token takes"];
        if self.peer.is_some() {
            header.extend(["llama.cpp", "ratio"]);
        }
        let row = |(row, measured): (&Row, &Measured)| {
            let mut cells = vec![row.to_string()];
            cells.extend(measured.runners.first().map(Spread::text));
            cells.push(format!("{} %", three_digits(100.0 * measured.shares().median)));
            cells.push(match Cost::of(row, self.prepared) {
                Cost::Bytes(n) => bytes(n as u64),
                Cost::Operations(n) => format!("{} operations", count(n.total() / row.tokens as u64)),
            });
            if let [ours, peer, ..] = &measured.runners[..] {
                cells.extend([peer.text(), format!("{:.2}", ours.median / peer.median)]);
            }
            cells
        };
        let rows: Vec<Vec<String>> = self.rows.iter().zip(&self.measured).map(row).collect();
        format!("{}\n{}\n{}", self.head(), render::table(&header, &rows), self.facts())
    }

    fn head(&self) -> String {
        let Prepared { name, kernels, kv, .. } = self.prepared;
        let threads = kernels.pool().threads();
        let turns = if self.repeat == 1 { "once".into() } else { format!("{} turns", self.repeat) };
        format!("{name}: {}, {threads} threads, {} cache, {turns}\n", kernels.isa(), kv_name(*kv))
    }

    fn facts(&self) -> Facts {
        let mut facts = Facts::default();
        if let Some(load) = &self.load {
            let mut line = load.first().map_or(String::new(), |ours| format!("{} s", ours.text()));
            if let [ours, peer, ..] = &load[..] {
                line +=
                    &format!("; llama.cpp {} s; {:.2} times as fast", peer.text(), peer.median / ours.median);
            }
            facts.add("load to first token", line);
        }
        let peak = |of: &Peak| {
            let Spread { min, median, max, .. } = of.operations_per_s();
            let giga = [min, median, max].map(|rate| grouped((rate / 1e9) as u64)).join(" / ");
            format!("{} {giga} G operations/s ({})", of.name, of.instructions)
        };
        let Spread { min, median, max, .. } = self.limits.reads();
        let reads = [min, median, max].map(|rate| three_digits(rate / 1e9)).join(" / ");
        let peaks = self.limits.peaks().iter().chain(self.limits.untiled()).map(peak);
        let lines: Vec<String> = [format!("reads {reads} GB/s")].into_iter().chain(peaks).collect();
        facts.add("limits here", lines.join("\n"));
        let Memory { weights, kv, scratch } = self.planned;
        let [total, weights, kv, scratch] =
            [self.planned.total(), weights, kv, scratch].map(|n| bytes(n as u64));
        let plan = format!("the plan says {total} (weights {weights}, cache {kv}, activations {scratch})");
        facts.add(
            "peak memory",
            match self.peak {
                Some(peak) => format!("{}; {plan}", bytes(peak)),
                None => plan,
            },
        );
        if let Some(peer) = &self.peer {
            let memory = peer.peak_memory.map_or(String::new(), |n| format!(", peak memory {}", bytes(n)));
            let cache = super::compare::cache_format(self.prepared.kv);
            facts.add("llama.cpp", format!("{}, {cache} cache{memory}\n{}", peer.version, peer.system));
        }
        facts
    }

    pub(super) fn json(&self) -> Value {
        let Prepared { name, plan, kernels, kv, checkpoint, .. } = self.prepared;
        let peak = |of: &Peak| {
            let Spread { median, .. } = of.operations_per_s();
            json!({"operations_per_s": median, "instructions": of.instructions})
        };
        let peaks = self.limits.peaks().iter().map(|of| (of.name.to_owned(), peak(of)));
        let peaks: serde_json::Map<_, _> = peaks.collect();
        let untiled = self.limits.untiled().map(peak);
        let reads = self.limits.reads();
        let Memory { weights, kv: cache, scratch } = self.planned;
        json!({
            "sampan": env!("CARGO_PKG_VERSION"),
            "model": name,
            "family": plan.family,
            "parameters": plan.parameters(),
            "file_bytes": checkpoint.file_bytes(),
            "machine": {
                "processor": machine::processor(),
                "cores": cpu::default_threads(),
                "best_isa": Isa::detect().name(),
            },
            "isa": kernels.isa().name(),
            "threads": kernels.pool().threads(),
            "kv": kv_name(*kv),
            "repeat": self.repeat,
            "limits": {
                "read_bytes_per_s": reads.median,
                "reads": reads.json(),
                "dot_products": peaks,
                "int8_without_tiles": untiled,
            },
            "rows": self.rows.iter().zip(&self.measured).map(|(row, m)| self.row_json(row, m)).collect::<Vec<_>>(),
            "load": self.load.as_ref().map(|load| compared("seconds", load, |ours, peer| peer / ours)),
            "memory": {
                "peak_bytes": self.peak,
                "planned_bytes": self.planned.total(),
                "weights_bytes": weights,
                "kv_bytes": cache,
                "scratch_bytes": scratch,
            },
            "peer": self.peer.as_ref().map(|peer| json!({
                "name": "llama.cpp",
                "version": peer.version,
                "system": peer.system,
                "peak_bytes": peer.peak_memory,
            })),
        })
    }

    fn row_json(&self, row: &Row, measured: &Measured) -> Value {
        let mut value = compared("tokens_per_s", &measured.runners, |ours, peer| ours / peer);
        value["what"] = row.to_string().into();
        value["kind"] = match row.kind {
            Kind::Prompt => "prompt".into(),
            Kind::Generate => "generate".into(),
        };
        value["tokens"] = row.tokens.into();
        value["depth"] = row.depth.into();
        value["streams"] = row.streams.into();
        match Cost::of(row, self.prepared) {
            Cost::Bytes(bytes) => value["bytes_per_token"] = bytes.into(),
            Cost::Operations(operations) => {
                let each = |kind: Arithmetic| {
                    (kind.name().to_owned(), (operations.of(kind) as f64 / row.tokens as f64).into())
                };
                value["operations_per_token"] =
                    Value::Object(Arithmetic::ALL.map(each).into_iter().collect());
            }
        }
        value["limit_tokens_per_s"] = measured.limits.median.into();
        value["limits"] = measured.limits.json();
        value["share_of_limit"] = measured.shares().median.into();
        value
    }
}

/// The figures of all runners under `unit`, and the ratio of their medians: above 1 we are faster.
fn compared(unit: &str, figures: &[Spread], ratio: impl Fn(f64, f64) -> f64) -> Value {
    let mut value = json!({unit: figures.first().map(Spread::json)});
    if let [ours, peer, ..] = figures {
        value["peer"] = json!({unit: peer.json()});
        value["ratio"] = ratio(ours.median, peer.median).into();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers_of_turns() {
        for (all, min, median, max) in [
            (vec![3.0], 3.0, 3.0, 3.0),
            (vec![5.0, 1.0, 2.0], 1.0, 2.0, 5.0),
            (vec![4.0, 1.0], 1.0, 2.5, 4.0),
        ] {
            assert_eq!(Spread::of(all.clone()), Spread { min, median, max, all });
        }
    }

    #[test]
    fn ratios_are_above_one_where_we_are_faster() {
        let figures = [Spread::of(vec![20.0, 30.0, 40.0]), Spread::of(vec![10.0])];
        assert_eq!(compared("tokens_per_s", &figures, |ours, peer| ours / peer)["ratio"], 3.0);
        assert_eq!(compared("seconds", &figures, |ours, peer| peer / ours)["ratio"], 1.0 / 3.0);
        assert!(compared("seconds", &figures[..1], |ours, peer| ours / peer).get("ratio").is_none());
    }

    #[test]
    fn a_share_is_that_of_the_limit_beside_it() {
        let runners = vec![Spread::of(vec![30.0, 60.0, 33.0])];
        let measured = Measured { runners, limits: Spread::of(vec![40.0, 80.0, 30.0]) };
        assert_eq!(measured.shares().all, [0.75, 0.75, 1.1]);
        assert_eq!(measured.shares().median, 0.75);
    }
}
