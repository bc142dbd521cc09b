//! Memory: what a model takes, what the machine can give and what its control group may take.

use std::{fs, path::Path};

use super::Config;
use crate::model::{self, Device, Task};

/// Bytes that a model takes while it serves.
pub(super) struct Needs {
    pub(super) weights: u64,
    pub(super) kv_cache: u64,
    /// For the rows of one step.
    pub(super) activations: u64,
}

impl Needs {
    pub(super) fn of(memory: &model::Memory, config: &Config, task: Task, context_length: usize) -> Self {
        let batch = u64::from(config.max_batch_tokens);
        let (kv_cache, rows) = match task {
            Task::Generate => (config.kv_cache.0, batch.max(u64::from(config.max_sequences))),
            // A text is run whole, and nothing of it is kept.
            Task::Embed | Task::Rerank => (0, batch.max(context_length as u64)),
        };
        Self { weights: memory.weights, kv_cache, activations: memory.row * rows + memory.step }
    }

    pub(super) fn sum(&self) -> u64 {
        self.weights + self.kv_cache + self.activations
    }

    /// Refuses a model that would not fit, with the sum, before the system would kill somebody for it.
    pub(super) fn fit(&self, device: Device) -> Result<(), String> {
        let needed = self.sum();
        match left(device) {
            Some(available) if needed > available => {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                Err(format!(
                    "it needs {} MiB of memory on `{device}` (weights {}, KV cache {}, activations {}), but {} MiB are available; \
                     take a smaller model, or lower candle.kv_cache, candle.max_batch_tokens or candle.context_length",
                    mib(needed),
                    mib(self.weights),
                    mib(self.kv_cache),
                    mib(self.activations),
                    mib(available)
                ))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that a model may still take on the device. `None` where nobody tells.
pub(super) fn left(device: Device) -> Option<u64> {
    if device.is_host() { available() } else { device.free_memory() }
}

/// Bytes that this process may still take, by `/proc/meminfo` and the limits of the control groups (cgroup v2) that it
/// is in. `None` where the system does not tell.
fn available() -> Option<u64> {
    let machine = meminfo(&fs::read_to_string("/proc/meminfo").ok()?);
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let group = group.and_then(|own| control_group(&own, Path::new("/sys/fs/cgroup")));
    [machine, group].into_iter().flatten().min()
}

fn meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
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
