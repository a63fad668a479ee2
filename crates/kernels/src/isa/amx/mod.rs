//! Intel AMX: tiles of 16 x 64 bytes and their products.

/// Whether this CPU has the int8 and bf16 tile instructions and the kernel lets this process use them.
///
/// Tile state is large, so Linux hands it out on request only; the permission is the process's and stays.
pub(crate) fn request() -> bool {
    features() && permission()
}

fn features() -> bool {
    const BF16: u32 = 1 << 22;
    const TILE: u32 = 1 << 24;
    const INT8: u32 = 1 << 25;
    let leaf = std::arch::x86_64::__cpuid_count(7, 0);
    leaf.edx & (BF16 | TILE | INT8) == (BF16 | TILE | INT8)
}

#[cfg(target_os = "linux")]
fn permission() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two integers and changes nothing but this process's permission to use tiles.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permission() -> bool {
    false
}
