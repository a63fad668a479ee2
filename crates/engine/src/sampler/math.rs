//! Sums over a row in a fixed order, and numbers by position. Rows are as long as a vocabulary, and there is one for each
//! token, so they are walked by the widest vectors; what is added to which does not depend on those.

use sampan_kernels::widest;

/// Width of the running sums: what is added to which does not depend on the machine.
const LANES: usize = 16;

/// Hands out a row's numbers, each with the lane that it belongs to.
#[inline(always)]
fn by_lanes(row: &[f32], mut f: impl FnMut(usize, f32)) {
    // Parts of a length known to the compiler become vector code.
    let parts = row.chunks_exact(LANES);
    let rest = parts.remainder();
    for part in parts {
        for (i, &x) in part.iter().enumerate() {
            f(i, x);
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        f(i, x);
    }
}

/// The largest of a row of logits. An error says why nothing can be chosen from it.
pub(super) fn max(row: &[f32]) -> Result<f32, &'static str> {
    let (best, bad) = widest(
        #[inline(always)]
        || {
            let mut best = [f32::NEG_INFINITY; LANES];
            let mut bad = [0u32; LANES];
            by_lanes(row, |i, x| {
                best[i] = if x > best[i] { x } else { best[i] };
                bad[i] |= u32::from(x.is_nan() | (x == f32::INFINITY));
            });
            (best, bad)
        },
    );
    let max = best.into_iter().fold(f32::NEG_INFINITY, f32::max);
    if bad != [0; LANES] {
        return Err("are not finite: the weights are damaged or a kernel is wrong; check the file's hash, \
                    and try the portable kernels");
    }
    if max == f32::NEG_INFINITY { Err("are all minus infinity: the weights are damaged") } else { Ok(max) }
}

/// The sum of `exp((x - max) / temperature)` over a row.
pub(super) fn sum_exp(row: &[f32], max: f32, temperature: f32) -> f64 {
    let sums = widest(
        #[inline(always)]
        || {
            let mut sums = [0f64; LANES];
            by_lanes(row, |i, x| sums[i] += f64::from(exp((x - max) / temperature)));
            sums
        },
    );
    sums.into_iter().sum()
}

/// The first place of a row that holds `wanted`.
pub(super) fn position(row: &[f32], wanted: f32) -> Option<usize> {
    /// Numbers that are compared before anyone asks.
    const PART: usize = 8 * LANES;
    let part = widest(
        #[inline(always)]
        || {
            for (number, part) in row.chunks(PART).enumerate() {
                let mut found = 0;
                for &x in part {
                    found |= u32::from(x == wanted);
                }
                if found != 0 {
                    return Some(number);
                }
            }
            None
        },
    )?;
    let first = part * PART;
    row[first..].iter().position(|&x| x == wanted).map(|i| first + i)
}

/// `e^x` for `x <= 0` to about 2 units in the last place; 0 below -87. Written out so that a loop over it becomes
/// vector code, and so that it is the same on every machine.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves an integer in the low bits
    let clamped = if x < -87.0 { -87.0 } else { x };
    let n = clamped * std::f32::consts::LOG2_E + ROUND;
    let whole = n - ROUND;
    // ln 2 in two parts, of which the first is exact times any `whole`.
    let r = (clamped - whole * 0.693_359_4) + whole * 2.121_944_4e-4;
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    let scale = f32::from_bits((n.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.0 { 0.0 } else { p * scale }
}

/// A number in `0..1` for a seed and a position: the mixing function of SplitMix64 (Steele, Lea and Flood 2014),
/// used as a hash of the two.
pub(super) fn uniform(seed: u64, position: u64) -> f64 {
    let x = mix(mix(seed) ^ position);
    (x >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_enough() {
        for i in 0..=870_000 {
            let x = -(i as f32) / 10_000.0;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 3e-7, "exp({x}) = {} and not {want}", exp(x));
        }
        assert_eq!((exp(0.0), exp(-87.1), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
    }

    #[test]
    fn the_first_of_equal_numbers_is_found_wherever_it_is() {
        for (len, at) in [(1, 0), (5, 4), (128, 127), (129, 128), (1000, 131)] {
            let mut row = vec![1.0; len];
            row[at..].fill(2.0);
            assert_eq!((position(&row, 2.0), position(&row, 3.0)), (Some(at), None), "{at} of {len}");
        }
        assert_eq!(position(&[], 0.0), None);
    }

    #[test]
    fn random_numbers_are_spread_and_differ_by_seed_and_position() {
        let mut counts = [0usize; 16];
        for seed in 0..64 {
            for position in 0..1024 {
                counts[(uniform(seed, position) * 16.0) as usize] += 1;
            }
        }
        // 4,096 expected in each, with a standard deviation of 62.
        assert!(counts.iter().all(|&n| (3_786..4_406).contains(&n)), "{counts:?}");
        assert_ne!(uniform(1, 2), uniform(2, 1));
    }
}
