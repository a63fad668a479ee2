//! Reading memory as fast as it goes.

/// Bytes ahead that are asked for.
const AHEAD: usize = 2048;

/// Reads all of `bytes` as four streams and combines them, so that no read can be left out.
pub(crate) fn read(bytes: &[u8]) -> u64 {
    let words: &[[u64; 8]] = bytemuck::cast_slice(&bytes[..bytes.len() / 256 * 256]);
    let quarter = words.len() / 4;
    let mut sums = [[0u64; 8]; 4];
    for i in 0..quarter {
        for (s, sum) in sums.iter_mut().enumerate() {
            let line = &words[s * quarter + i];
            prefetch(line.as_ptr().wrapping_byte_add(AHEAD));
            sum.iter_mut().zip(line).for_each(|(sum, word)| *sum ^= word);
        }
    }
    sums.iter().flatten().fold(0, |all, sum| all ^ sum)
}

fn prefetch(at: *const u64) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch may point anywhere, and every x86-64 CPU has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
