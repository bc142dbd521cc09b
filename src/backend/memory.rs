//! The memory that loaded models share: what there is, what each takes, and who has to go when another comes.

use std::{
    fs,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{self, Notify},
    time::{Instant, sleep_until},
};

use super::{lifecycle::Resident, model::Model};

/// For so long a model that waits for memory leaves the others in peace. After each such time one more of them, the
/// least recently used first, takes no new request until there is room: who is asked without a pause would never go.
const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes that a model takes once it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Footprint {
    pub weights: u64,
    pub kv_cache: u64,
    pub activations: u64,
}

impl Footprint {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.activations)
    }

    /// Why it cannot be loaded where only so many bytes are available; `limit` says where, or by whose word.
    #[must_use]
    pub fn refusal(&self, available: u64, limit: &str) -> String {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let Self { weights, kv_cache, activations } = *self;
        format!(
            "it needs {} MiB of memory (weights {}, KV cache {}, activations {}), but {} MiB are available{limit}; \
             take a smaller model, or lower candle.kv_cache, candle.max_batch_tokens or candle.context_length",
            mib(self.total()),
            mib(weights),
            mib(kv_cache),
            mib(activations),
            mib(available)
        )
    }
}

/// What the models of the daemon take together.
#[derive(Default)]
pub(super) struct Memory {
    accounts: Mutex<Accounts>,
    /// Who waits for memory waits in line.
    turn: sync::Mutex<()>,
    /// Memory was given back, or a model may be unloaded now.
    changed: Notify,
}

#[derive(Default)]
struct Accounts {
    /// `memory_budget`, in bytes.
    limit: Option<u64>,
    /// The sum of all shares.
    reserved: u64,
    /// Who may have one.
    holders: Vec<Weak<Model>>,
}

/// A part of the memory, until dropped.
pub(super) struct Share {
    memory: Arc<Memory>,
    bytes: u64,
}

impl Share {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.accounts().reserved -= self.bytes;
        self.memory.moved();
    }
}

/// Models that take no new request, until dropped.
#[derive(Default)]
struct Held(Vec<Arc<Model>>);

impl Drop for Held {
    fn drop(&mut self) {
        for model in &self.0 {
            model.hold(false);
        }
    }
}

impl Memory {
    fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn limit(&self) -> Option<u64> {
        self.accounts().limit
    }

    /// The share of what takes nothing.
    pub(super) fn nothing(self: &Arc<Self>) -> Share {
        Share { memory: Arc::clone(self), bytes: 0 }
    }

    /// Returns the limit before.
    pub(super) fn set_limit(&self, limit: Option<u64>) -> Option<u64> {
        std::mem::replace(&mut self.accounts().limit, limit)
    }

    /// Bytes that the models have, those that are loading or unloading included.
    pub(super) fn reserved(&self) -> u64 {
        self.accounts().reserved
    }

    /// Something is free that was not.
    pub(super) fn moved(&self) {
        self.changed.notify_waiters();
    }

    /// Waits for room, and takes it for `model`. Idle models are unloaded for it, the least recently used first, never
    /// one that a request runs on.
    ///
    /// # Errors
    /// The sum, when there cannot be room whoever goes.
    pub(super) async fn reserve(
        self: &Arc<Self>,
        model: &Arc<Model>,
        footprint: &Footprint,
    ) -> Result<Share, String> {
        let need = footprint.total();
        // Kept until the share is taken: nobody else finds the same room.
        let turn = if need > 0 { Some(self.turn.lock().await) } else { None };
        if turn.is_some() {
            let room = self.make_room(need, &format!("{} needs its memory", model.id())).await;
            room.map_err(|most| {
                let within = |limit: u64| format!(" within memory_budget = {} MiB", limit.div_ceil(1 << 20));
                let (by_budget, by_system) = self.rooms(self.reserved());
                let limit = self.limit().filter(|_| by_budget <= by_system);
                let within = limit.map(within).unwrap_or_default();
                footprint.refusal(u64::try_from(most).unwrap_or(0), &within)
            })?;
        }
        let mut accounts = self.accounts();
        accounts.reserved += need;
        accounts.holders.retain(|holder| holder.strong_count() > 0 && !holder.ptr_eq(&Arc::downgrade(model)));
        accounts.holders.push(Arc::downgrade(model));
        Ok(Share { memory: Arc::clone(self), bytes: need })
    }

    /// Unloads what is beyond the limit, after it was lowered.
    pub(super) async fn shrink(&self) {
        let _turn = self.turn.lock().await;
        if self.room(self.reserved()) < 0
            && self.make_room(0, "the memory budget is smaller now").await.is_err()
        {
            tracing::warn!("memory_budget is less than what the models take that are not lazy");
        }
    }

    /// # Errors
    /// The most that there can be, in bytes.
    async fn make_room(&self, need: u64, why: &str) -> Result<(), i64> {
        let need = signed(need);
        let begun = Instant::now();
        let mut held = Held::default();
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            // Once for both: what is given back in between would be in neither.
            let reserved = self.reserved();
            let room = self.room(reserved);
            if room >= need {
                return Ok(());
            }
            let (residents, leaving) = self.residents(reserved);
            let most =
                residents.iter().fold(room + leaving, |sum, (_, resident)| sum + signed(resident.bytes));
            if most < need {
                return Err(most);
            }
            let mut soon = leaving;
            for (model, resident) in &residents {
                if room + soon < need && model.unload_if_idle(why) {
                    soon += signed(resident.bytes);
                }
            }
            let rounds = begun.elapsed().as_secs() / PATIENCE.as_secs();
            if room + soon < need {
                let wanted = usize::try_from(rounds).unwrap_or(usize::MAX);
                for (model, _) in residents.iter().take(wanted) {
                    if !held.0.iter().any(|other| Arc::ptr_eq(other, model)) {
                        model.hold(true);
                        held.0.push(Arc::clone(model));
                    }
                }
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(begun + PATIENCE * u32::try_from(rounds + 1).unwrap_or(u32::MAX)) => {}
            }
        }
    }

    /// Lazy models that have memory and keep it as yet, the least recently used first; and bytes that are about to be
    /// given back.
    fn residents(&self, reserved: u64) -> (Vec<(Arc<Model>, Resident)>, i64) {
        let holders: Vec<_> = self.accounts().holders.iter().filter_map(Weak::upgrade).collect();
        let mut leaving = signed(reserved);
        let mut residents = Vec::new();
        for model in holders {
            let Some(resident) = model.resident() else { continue };
            if !resident.leaves {
                leaving -= signed(resident.bytes);
            }
            if model.may_go() && !resident.leaves {
                residents.push((model, resident));
            }
        }
        residents.sort_by_key(|(_, resident)| resident.used);
        // What no model has any more belongs to one that a reload has replaced and that is being dropped.
        (residents, leaving.max(0))
    }

    /// Bytes that are free; below zero, bytes too many.
    fn room(&self, reserved: u64) -> i64 {
        let (by_budget, by_system) = self.rooms(reserved);
        by_budget.min(by_system)
    }

    /// Bytes that the budget leaves of what is not reserved, and those that the system has.
    fn rooms(&self, reserved: u64) -> (i64, i64) {
        let by_budget = self.limit().map(|limit| signed(limit) - signed(reserved));
        // What was promised to models and they have not touched yet is still counted as available by the system.
        let promised = reserved.saturating_sub(resident_set().unwrap_or(reserved));
        let by_system = available().map(|available| signed(available) - signed(promised));
        (by_budget.unwrap_or(i64::MAX), by_system.unwrap_or(i64::MAX))
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Bytes that this process may still take, by `/proc/meminfo` and the limits of the control groups (cgroup v2) that it
/// is in. `None` where the system does not tell.
#[must_use]
pub fn available() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|own| control_group(&own, Path::new("/sys/fs/cgroup")));
    [machine, group].into_iter().flatten().min()
}

/// Bytes of this process's own memory that are in use, those of mapped files left out.
fn resident_set() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

fn meminfo(text: &str) -> Option<u64> {
    kib(text, "MemAvailable:")
}

/// A line's number of KiB, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// The least that any of the nested groups has left. `own` is the process's `/proc/self/cgroup`, `root` where the
/// groups are.
fn control_group(own: &str, root: &Path) -> Option<u64> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?.trim();
    let number = |group: &str, file: &str| -> Option<u64> {
        fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse().ok()
    };
    let groups = std::iter::successors(Some(path), |group| group.rsplit_once('/').map(|(above, _)| above));
    groups
        .filter_map(|group| {
            let limit = number(group, "memory.max")?;
            // Pages of mapped files are given back before anybody is killed for want of memory.
            let cached = fs::read_to_string(root.join(group).join("memory.stat")).unwrap_or_default();
            let cached =
                cached.lines().find_map(|line| line.strip_prefix("inactive_file ")?.trim().parse().ok());
            let used = number(group, "memory.current")?.saturating_sub(cached.unwrap_or(0));
            Some(limit.saturating_sub(used))
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(meminfo("MemTotal:  9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(meminfo("MemTotal: 9 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn the_tightest_of_the_nested_groups_decides() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, files: &[(&str, &str)]| {
            let directory = root.path().join(path);
            fs::create_dir_all(&directory).unwrap();
            for (name, text) in files {
                fs::write(directory.join(name), text).unwrap();
            }
        };
        // As systemd writes them for MemoryMax=1G in the service, and for its slice.
        let own = "0::/system.slice/sconce.service\n";
        let left = || control_group(own, root.path());
        group("system.slice", &[("memory.max", "max\n"), ("memory.current", "9000000000\n")]);
        group("system.slice/sconce.service", &[("memory.max", "max\n"), ("memory.current", "300\n")]);
        assert_eq!(left(), None, "no limit");
        group("system.slice/sconce.service", &[("memory.max", "1073741824\n")]);
        assert_eq!(left(), Some(1_073_741_824 - 300));
        group("system.slice/sconce.service", &[("memory.stat", "anon 100\ninactive_file 200\n")]);
        assert_eq!(left(), Some(1_073_741_824 - 100), "pages of files are given back");
        group("system.slice", &[("memory.max", "9000000400\n")]);
        assert_eq!(left(), Some(400));
        assert_eq!(control_group("1:name=systemd:/\n", root.path()), None, "the older hierarchy");
    }
}
