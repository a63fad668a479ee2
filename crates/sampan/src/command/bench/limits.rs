//! What this machine can do, measured beside what it did: a shared one does not do the same from one second to the next.

use super::report::Spread;
use super::row::{Kind, Row};
use sampan::Prepared;
use sampan_kernels::Isa;
use sampan_kernels::limits::{Arithmetic, DotPeak, measure_bandwidth_of, measure_dot_peak};
use sampan_model::{Model, Operations};
use std::sync::Arc;

/// What a row costs by the plan.
pub(super) enum Cost {
    /// Bytes read from memory, per token of any stream.
    Bytes(f64),
    /// Computed for the whole prompt.
    Operations(Operations),
}

impl Cost {
    pub(super) fn of(row: &Row, prepared: &Prepared) -> Cost {
        let Prepared { plan, kernels, kv, .. } = prepared;
        match row.kind {
            Kind::Prompt => Cost::Operations(plan.operations(kernels, *kv, row.depth, row.tokens)),
            Kind::Generate => {
                let step = plan.step_bytes(kernels, *kv, row.depth + row.tokens / 2, row.streams);
                Cost::Bytes(step as f64 / row.streams as f64)
            }
        }
    }
}

/// Multiplications and additions per second of one kind, of every measurement.
pub(super) struct Peak {
    pub(super) name: &'static str,
    pub(super) instructions: &'static str,
    all: Vec<f64>,
}

impl Peak {
    fn new(name: &'static str, first: DotPeak) -> Peak {
        Peak { name, instructions: first.instructions, all: vec![first.operations_per_s] }
    }

    pub(super) fn operations_per_s(&self) -> Spread {
        Spread::of(self.all.clone())
    }

    fn newest(&self) -> f64 {
        *self.all.last().expect("a peak begins with a measurement")
    }
}

/// The shortest time in which the operations can be done, in seconds, at the newest `peaks` of every kind.
fn seconds(operations: &Operations, peaks: &[Peak; 3]) -> f64 {
    let kinds = Arithmetic::ALL.into_iter().zip(peaks);
    kinds.map(|(kind, peak)| operations.of(kind) as f64 / peak.newest()).sum()
}

/// The limits, as they were from measurement to measurement.
pub(super) struct Limits {
    model: Arc<Model>,
    reads: Vec<f64>,
    peaks: [Peak; 3],
    /// Of int8 without tiles, where the level has tiles: few rows and older machines do with that.
    untiled: Option<Peak>,
}

impl Limits {
    pub(super) fn new(model: Arc<Model>) -> Limits {
        let kernels = model.kernels();
        let peak =
            |isa, kind: Arithmetic| Peak::new(kind.name(), measure_dot_peak(kernels.pool(), isa, kind));
        Limits {
            reads: vec![measure_bandwidth_of(kernels.pool(), model.matrices())],
            peaks: Arithmetic::ALL.map(|kind| peak(kernels.isa(), kind)),
            untiled: (kernels.isa() == Isa::Amx).then(|| peak(Isa::Avx512, Arithmetic::Int8)),
            model,
        }
    }

    /// Tokens per second of `row` that the machine would do at this moment at best.
    pub(super) fn now(&mut self, row: &Row, cost: &Cost) -> f64 {
        let (pool, isa) = (self.model.kernels().pool(), self.model.kernels().isa());
        match cost {
            Cost::Bytes(bytes) => {
                let rate = measure_bandwidth_of(pool, self.model.matrices());
                self.reads.push(rate);
                rate / bytes
            }
            Cost::Operations(operations) => {
                for (kind, peak) in Arithmetic::ALL.into_iter().zip(&mut self.peaks) {
                    if operations.of(kind) > 0 {
                        peak.all.push(measure_dot_peak(pool, isa, kind).operations_per_s);
                    }
                }
                row.tokens as f64 / seconds(operations, &self.peaks)
            }
        }
    }

    /// Bytes per second.
    pub(super) fn reads(&self) -> Spread {
        Spread::of(self.reads.clone())
    }

    pub(super) fn peaks(&self) -> &[Peak] {
        &self.peaks
    }

    pub(super) fn untiled(&self) -> Option<&Peak> {
        self.untiled.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_time_is_that_of_each_kind_at_its_peak() {
        let peaks = Arithmetic::ALL.map(|kind| {
            let rate = if kind == Arithmetic::Int8 { 100.0 } else { 10.0 };
            Peak::new(kind.name(), DotPeak { operations_per_s: rate, instructions: "" })
        });
        assert_eq!(seconds(&Operations { int8: 200, bf16: 30, f32: 5 }, &peaks), 2.0 + 3.0 + 0.5);
    }
}
