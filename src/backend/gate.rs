//! How many may be in at one time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

/// A semaphore whose size can change while it is used.
pub(crate) struct Gate {
    permits: Arc<Semaphore>,
    size: Mutex<usize>,
}

impl Gate {
    pub(crate) fn new(size: usize) -> Self {
        let size = size.min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(size)), size: Mutex::new(size) }
    }

    pub(crate) fn permits(&self) -> Arc<Semaphore> {
        Arc::clone(&self.permits)
    }

    /// What is beyond the new size stays until it is given back.
    pub(crate) fn resize(&self, new: usize) {
        let new = new.min(Semaphore::MAX_PERMITS);
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if new > *size {
            self.permits.add_permits(new - *size);
        }
        let surplus = (*size).saturating_sub(new);
        let held = surplus - self.permits.forget_permits(surplus);
        if let Ok(held @ 1..) = u32::try_from(held) {
            let permits = self.permits();
            tokio::spawn(async move {
                if let Ok(permits) = permits.acquire_many_owned(held).await {
                    permits.forget();
                }
            });
        }
        *size = new;
    }

    /// Permits that are out.
    pub(crate) fn taken(&self) -> usize {
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.saturating_sub(self.permits.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gate_that_shrinks_takes_back_what_is_out_as_it_comes() {
        let gate = Gate::new(3);
        let mut out: Vec<_> = (0..3).map(|_| gate.permits().try_acquire_owned().unwrap()).collect();
        gate.resize(1);
        tokio::task::yield_now().await;
        for left in [2, 1, 0] {
            assert!(gate.permits().try_acquire_owned().is_err(), "{left} are out still, and one may be");
            out.pop();
            tokio::task::yield_now().await;
        }
        let last = gate.permits().try_acquire_owned().unwrap();
        assert!(gate.permits().try_acquire_owned().is_err());
        assert_eq!(gate.taken(), 1);
        gate.resize(2);
        let more = gate.permits().try_acquire_owned().unwrap();
        assert!(gate.permits().try_acquire_owned().is_err());
        drop((last, more));
        assert_eq!(gate.taken(), 0);
    }
}
