//! Threads that fork and join in microseconds.
//!
//! A decode step forks and joins some hundred times, so that rayon's join and a barrier of all threads both cost. Here the
//! caller works too, takes tasks from the same counter as the others, and at the end waits only for those who came: a
//! thread that sleeps or has lost its core delays nobody. Idle threads spin for a moment, then sleep.
#![expect(
    unsafe_code,
    reason = "a borrowed closure lent to threads that outlive it; `run` waits for their return"
)]

use std::{
    any::Any,
    cell::UnsafeCell,
    hint,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

/// In [`Shared::gate`]: no job is open. The rest of the number counts the threads inside.
const CLOSED: usize = 1 << (usize::BITS - 1);
/// Rounds of spinning before an idle thread sleeps: some tens of microseconds, longer than a step's serial parts.
const SPINS: usize = 4000;

type Job = *const (dyn Fn(usize) + Sync);

/// The cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// The caller and `threads - 1` others. Dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    /// One job at a time.
    turn: Mutex<()>,
    others: Vec<thread::JoinHandle<()>>,
}

struct Shared {
    /// Written while the gate is closed and nobody is inside; read by those inside.
    job: UnsafeCell<Option<Job>>,
    tasks: AtomicUsize,
    next: AtomicUsize,
    gate: AtomicUsize,
    /// Grows with each job; the end is a job too.
    epoch: AtomicUsize,
    end: AtomicBool,
    asleep: AtomicUsize,
    bed: Mutex<()>,
    bell: Condvar,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `job` is guarded by the gate, and what it points to is `Sync`.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Pool {
    /// A pool of `threads`, the caller among them; at least one. Fewer where the system gives no more.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(None),
            tasks: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            gate: AtomicUsize::new(CLOSED),
            epoch: AtomicUsize::new(0),
            end: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            bell: Condvar::new(),
            panic: Mutex::new(None),
        });
        let spawn = |index| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name(format!("kernels-{index}")).spawn(move || shared.serve()).ok()
        };
        let others = (1..threads.max(1)).map_while(spawn).collect();
        Self { shared, turn: Mutex::new(()), others }
    }

    #[must_use]
    pub fn threads(&self) -> usize {
        self.others.len() + 1
    }

    /// Calls `task` with each number below `tasks`, on any thread and in any order, and returns when all are done.
    ///
    /// # Panics
    /// When a task panicked, with the first panic's payload. The pool stays usable. Not to be called from within a task.
    pub fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.others.is_empty() {
            return (0..tasks).for_each(task);
        }
        let _turn = locked(&self.turn);
        let shared = &*self.shared;
        // SAFETY: the lifetime is taken away. The pointer is used only by threads inside the gate, and this function
        // does not return, nor unwind, before the gate is closed and all have left.
        let job: Job = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), Job>(task) };
        // SAFETY: the gate is closed and nobody is inside, so nobody reads.
        unsafe { *shared.job.get() = Some(job) };
        shared.tasks.store(tasks, SeqCst);
        shared.next.store(0, SeqCst);
        shared.gate.fetch_and(!CLOSED, SeqCst);
        shared.epoch.fetch_add(1, SeqCst);
        shared.wake();
        shared.work(task);
        shared.gate.fetch_or(CLOSED, SeqCst);
        let mut spins = 0;
        while shared.gate.load(SeqCst) != CLOSED {
            wait(&mut spins);
        }
        let payload = locked(&shared.panic).take();
        if let Some(payload) = payload {
            panic::resume_unwind(payload);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.end.store(true, SeqCst);
        self.shared.epoch.fetch_add(1, SeqCst);
        self.shared.wake();
        for thread in self.others.drain(..) {
            // A task's panic has been caught before, and the thread's own code has none.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn serve(&self) {
        let mut seen = 0;
        loop {
            self.wait_beyond(&mut seen);
            if self.end.load(SeqCst) {
                return;
            }
            // A thread that comes late, after the close, leaves again without a look at the job.
            if self.gate.fetch_add(1, SeqCst) & CLOSED == 0 {
                // SAFETY: the gate was open when we entered, so the job is written and outlives our stay.
                if let Some(job) = unsafe { *self.job.get() } {
                    // SAFETY: as above.
                    self.work(unsafe { &*job });
                }
            }
            self.gate.fetch_sub(1, SeqCst);
        }
    }

    fn work(&self, task: &(dyn Fn(usize) + Sync)) {
        let tasks = self.tasks.load(SeqCst);
        let taken = panic::catch_unwind(AssertUnwindSafe(|| {
            loop {
                let index = self.next.fetch_add(1, SeqCst);
                if index >= tasks {
                    return;
                }
                task(index);
            }
        }));
        if let Err(payload) = taken {
            locked(&self.panic).get_or_insert(payload);
        }
    }

    fn wait_beyond(&self, seen: &mut usize) {
        for _ in 0..SPINS {
            if self.epoch.load(SeqCst) != *seen {
                break;
            }
            hint::spin_loop();
        }
        if self.epoch.load(SeqCst) == *seen {
            let mut bed = locked(&self.bed);
            // Counted before the last look at the epoch: whoever raises it after that look sees a sleeper and rings.
            self.asleep.fetch_add(1, SeqCst);
            while self.epoch.load(SeqCst) == *seen {
                bed = self.bell.wait(bed).unwrap_or_else(PoisonError::into_inner);
            }
            self.asleep.fetch_sub(1, SeqCst);
        }
        *seen = self.epoch.load(SeqCst);
    }

    fn wake(&self) {
        if self.asleep.load(SeqCst) > 0 {
            drop(locked(&self.bed));
            self.bell.notify_all();
        }
    }
}

/// Spins, and gives the core away when it takes long.
fn wait(spins: &mut usize) {
    *spins += 1;
    if *spins < SPINS {
        hint::spin_loop();
    } else {
        thread::yield_now();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for threads in [1, 2, 4, 7] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 3, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                for _ in 0..200 {
                    pool.run(tasks, &|i| {
                        counts[i].fetch_add(1, SeqCst);
                    });
                }
                assert!(counts.iter().all(|count| count.load(SeqCst) == 200));
            }
        }
    }

    #[test]
    fn sleepers_are_woken() {
        let pool = Pool::new(3);
        for _ in 0..20 {
            thread::sleep(std::time::Duration::from_millis(2));
            let sum = AtomicUsize::new(0);
            pool.run(50, &|i| {
                sum.fetch_add(i, SeqCst);
            });
            assert_eq!(sum.into_inner(), 49 * 25);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2);
        let caught = panic::catch_unwind(AssertUnwindSafe(|| pool.run(8, &|i| assert_ne!(i, 5, "five"))));
        assert!(caught.is_err());
        pool.run(8, &|_| {});
    }
}
