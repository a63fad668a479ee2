//! The thread pool: chunks of one task at a time, claimed dynamically.
//!
//! Every thread begins with a share of its own, the chunks in order, and then helps the others with theirs: memory is
//! read in long runs, and what a thread has written in one task is what it reads in the next, as far as shares agree.
//!
//! Nobody waits for a thread, only for chunks: a worker that the system has put aside delays a task by the
//! chunk it holds and no more, because the others claim the rest. Workers look for the next task for a few
//! tens of microseconds before they sleep, so that the hundreds of small tasks of one token follow at once.

#![allow(unsafe_code)]

use std::any::Any;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long an idle worker looks for work before it sleeps.
const SPIN: Duration = Duration::from_micros(60);

/// Worker threads that share the chunks of one task at a time.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: usize,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads).finish()
    }
}

/// The task as a thin pointer to a caller's fat one, which lives until the task is over.
type Task<'a> = &'a (dyn Fn(usize) + Sync);

struct Shared {
    /// What each thread begins with.
    shares: Vec<Share>,
    task: AtomicPtr<()>,
    done: AtomicUsize,
    /// Held by the caller whose task runs.
    busy: AtomicBool,
    quit: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// Consecutive chunks of a task. Alone on its cache lines, because its thread alone uses them, until others help.
#[derive(Default)]
#[repr(align(128))]
struct Share {
    /// Upper half: number of the task; lower half: chunks not yet claimed. One word, so that a claim can only
    /// succeed on the task whose other fields the claimer has read.
    ticket: AtomicU64,
    /// The chunk after the last.
    end: AtomicUsize,
}

impl Share {
    fn unclaimed(&self) -> bool {
        self.ticket.load(Ordering::SeqCst) & u64::from(u32::MAX) != 0
    }
}

impl Pool {
    /// A pool in which `threads` threads work, the caller's among them.
    pub fn new(threads: usize) -> Pool {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            shares: (0..threads).map(|_| Share::default()).collect(),
            task: AtomicPtr::new(std::ptr::null_mut()),
            done: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            quit: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            panic: Mutex::new(None),
        });
        let cpus = allowed_cpus();
        let workers = (1..threads)
            .filter_map(|index| {
                let shared = Arc::clone(&shared);
                // One thread per CPU gets a place of its own; more threads than CPUs are left to the system.
                let place = (threads <= cpus.len()).then(|| cpus[index]);
                let start = move || {
                    if let Some(cpu) = place {
                        pin(cpu);
                    }
                    shared.work(index);
                };
                // A thread that the system refuses is a slower pool, not a broken one.
                std::thread::Builder::new().name(format!("kernels-{index}")).spawn(start).ok()
            })
            .collect();
        Pool { shared, workers, threads }
    }

    /// How many threads work on a task.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `task(chunk)` once for every chunk in `0..chunks`, on any thread, and returns when all are done.
    ///
    /// Called from inside a task, or while another thread's task runs, it does all the chunks itself.
    ///
    /// # Panics
    /// With the panic of a chunk, after the other chunks are done.
    pub fn run(&self, chunks: usize, task: &(dyn Fn(usize) + Sync)) {
        if chunks <= 1 || self.workers.is_empty() || self.shared.busy.swap(true, Ordering::Acquire) {
            (0..chunks).for_each(task);
            return;
        }
        self.shared.publish(&task, u32::try_from(chunks).expect("fewer than 2^32 chunks"));
        self.shared.help(0);
        let mut spins = 0u32;
        while self.shared.done.load(Ordering::Acquire) != chunks {
            spins += 1;
            // A chunk in the hands of a thread that does not run: let the system run it.
            if spins.is_multiple_of(4096) { std::thread::yield_now() } else { spin_loop() }
        }
        let panic = lock(&self.shared.panic).take();
        self.shared.busy.store(false, Ordering::Release);
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Cuts `out` into pieces of `len` (the last may be shorter) and calls `task(index, piece)` for each.
    pub fn run_slices<T: Send>(&self, out: &mut [T], len: usize, task: impl Fn(usize, &mut [T]) + Sync) {
        let len = len.max(1);
        let total = out.len();
        let base = SendPtr(out.as_mut_ptr());
        self.run(total.div_ceil(len), &|chunk| {
            let start = chunk * len;
            // SAFETY: chunks are disjoint ranges within `out`, each is handed out once, and `run` returns
            // before the borrow of `out` ends.
            let piece = unsafe { std::slice::from_raw_parts_mut(base.at(start), len.min(total - start)) };
            task(chunk, piece);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.sleep));
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // Workers catch every panic of a task.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn publish(&self, task: &Task<'_>, chunks: u32) {
        self.done.store(0, Ordering::Relaxed);
        self.task.store(std::ptr::from_ref(task).cast::<()>().cast_mut(), Ordering::Relaxed);
        let number = (self.shares[0].ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        // Rounded up, so that the caller, who is awake, has chunks where not everybody has.
        let first = |thread: usize| (thread as u64 * u64::from(chunks)).div_ceil(self.shares.len() as u64);
        for (thread, share) in self.shares.iter().enumerate() {
            let end = first(thread + 1);
            share.end.store(end as usize, Ordering::Relaxed);
            // SeqCst against the sleepers' count: either the worker sees the ticket or we see the sleeper.
            share.ticket.store(number << 32 | (end - first(thread)), Ordering::SeqCst);
        }
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            drop(lock(&self.sleep));
            self.wake.notify_all();
        }
    }

    /// Runs chunks until none is left: first those of `thread`'s own share, then of the others'.
    fn help(&self, thread: usize) {
        let mut ran = 0;
        for share in self.shares[thread..].iter().chain(&self.shares[..thread]) {
            while self.step(share) {
                ran += 1;
            }
        }
        if ran > 0 {
            self.done.fetch_add(ran, Ordering::Release);
        }
    }

    /// Claims one chunk of a share and runs it; false when none is left. Whoever calls this counts it as done, when it
    /// has run all that it will.
    fn step(&self, share: &Share) -> bool {
        let mut ticket = share.ticket.load(Ordering::Acquire);
        loop {
            let left = ticket & u64::from(u32::MAX);
            if left == 0 {
                return false;
            }
            let task = self.task.load(Ordering::Relaxed);
            let end = share.end.load(Ordering::Relaxed);
            match share.ticket.compare_exchange_weak(ticket, ticket - 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Err(now) => ticket = now,
                Ok(_) => {
                    // SAFETY: the claim succeeded, so the task whose number the ticket carries had an
                    // unclaimed chunk until now. Its caller cannot return, nor anyone publish another task,
                    // before that chunk is counted as done; hence both fields were this task's when they were
                    // read, and the pointer to the caller's reference is alive.
                    let task: Task<'_> = unsafe { *task.cast::<Task<'_>>() };
                    let result = catch_unwind(AssertUnwindSafe(|| task(end - left as usize)));
                    if let Err(panic) = result {
                        lock(&self.panic).get_or_insert(panic);
                    }
                    return true;
                }
            }
        }
    }

    fn work(&self, thread: usize) {
        loop {
            self.help(thread);
            if !self.wait(&self.shares[thread]) {
                return;
            }
        }
    }

    /// Returns true when there is something in a thread's `share`, false when the pool is being dropped.
    fn wait(&self, share: &Share) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..64 {
                if share.unclaimed() {
                    return true;
                }
                spin_loop();
            }
            if start.elapsed() > SPIN {
                break;
            }
        }
        let mut guard = lock(&self.sleep);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !share.unclaimed() && !self.quit.load(Ordering::SeqCst) {
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        drop(guard);
        !self.quit.load(Ordering::SeqCst)
    }
}

/// No panic happens under these locks, so a poisoned one holds nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pointer that chunks on several threads derive disjoint slices from.
#[derive(Debug)]
pub(crate) struct SendPtr<T>(pub(crate) *mut T);

// SAFETY: the pointer itself is only a number; whoever dereferences it answers for disjoint use.
unsafe impl<T: Send> Send for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SendPtr<T> {}

impl<T> SendPtr<T> {
    /// The pointer `offset` places on.
    ///
    /// # Safety
    /// `offset` is within the allocation.
    pub(crate) unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// The CPUs this process may run on, in order.
#[cfg(target_os = "linux")]
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: an all-zero `cpu_set_t` is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable and of the length given.
    let status = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
    if status != 0 {
        return all_cpus();
    }
    // SAFETY: every index is below the set's capacity.
    (0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// The CPUs this process may run on, in order.
#[cfg(not(target_os = "linux"))]
pub fn allowed_cpus() -> Vec<usize> {
    all_cpus()
}

fn all_cpus() -> Vec<usize> {
    (0..std::thread::available_parallelism().map_or(1, usize::from)).collect()
}

/// Ties the calling thread to one CPU, if the system agrees.
#[cfg(target_os = "linux")]
fn pin(cpu: usize) {
    // SAFETY: an all-zero `cpu_set_t` is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `cpu` came from `allowed_cpus`, below the set's capacity; 0 means the calling thread.
    unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(_cpu: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_chunk_once(threads: usize, chunks: usize) {
        let pool = Pool::new(threads);
        let counts: Vec<AtomicUsize> = (0..chunks).map(|_| AtomicUsize::new(0)).collect();
        for round in 1..=200 {
            pool.run(chunks, &|chunk| {
                counts[chunk].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round));
        }
    }

    #[test]
    fn every_chunk_runs_exactly_once() {
        for threads in [1, 2, 3, 8] {
            for chunks in [0, 1, 2, 7, 100] {
                each_chunk_once(threads, chunks);
            }
        }
    }

    #[test]
    fn slices_cover_the_whole() {
        let pool = Pool::new(3);
        let mut out = vec![0; 1003];
        pool.run_slices(&mut out, 10, |index, piece| {
            assert_eq!(piece.len(), if index == 100 { 3 } else { 10 });
            piece.iter_mut().enumerate().for_each(|(i, x)| *x = index * 10 + i + 1);
        });
        assert!(out.iter().enumerate().all(|(i, &x)| x == i + 1));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3);
        for bad in [0, 5, 99] {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                pool.run(100, &|chunk| assert!(chunk != bad, "chunk {chunk}"));
            }));
            let message = *caught.unwrap_err().downcast::<String>().unwrap();
            assert_eq!(message, format!("chunk {bad}"));
            let sum = AtomicUsize::new(0);
            pool.run(10, &|chunk| {
                sum.fetch_add(chunk, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }

    #[test]
    fn nested_and_concurrent_tasks_finish() {
        let pool = Pool::new(2);
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        pool.run(4, &|_| {
                            pool.run(3, &|chunk| {
                                sum.fetch_add(chunk, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 4 * 50 * 4 * 3);
    }

    #[test]
    fn sleeping_workers_wake() {
        let pool = Pool::new(2);
        for _ in 0..5 {
            std::thread::sleep(SPIN * 5);
            let seen = Mutex::new(std::collections::HashSet::new());
            pool.run(64, &|_| {
                std::thread::sleep(Duration::from_micros(200));
                seen.lock().unwrap().insert(std::thread::current().id());
            });
            assert_eq!(seen.into_inner().unwrap().len(), 2);
        }
    }
}
