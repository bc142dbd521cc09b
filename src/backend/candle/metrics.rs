//! The engine's counters under the names that they are watched by.

use crate::{backend::metric::Metric, engine::Stats};

pub(super) fn metrics(stats: &Stats) -> Vec<Metric> {
    let metric = Metric::number;
    vec![
        metric("sconce_sequences_running", "Sequences that have blocks of the KV cache.", stats.running),
        metric("sconce_sequences_waiting", "Sequences that wait for blocks.", stats.waiting),
        metric("sconce_sequences_paused", "Sequences whose reader does not keep up.", stats.paused),
        metric("sconce_kv_blocks", "Blocks of the KV cache.", stats.blocks),
        metric("sconce_kv_blocks_used", "Blocks that sequences hold.", stats.blocks_used),
        metric("sconce_kv_blocks_cached", "Free blocks that a prompt may find again.", stats.blocks_cached),
        metric("sconce_engine_steps_total", "Forward passes.", stats.steps),
        metric("sconce_tokens_run_total", "Tokens that went through the model.", stats.tokens_run),
        metric("sconce_tokens_drawn_total", "Tokens that were sampled.", stats.tokens_drawn),
        metric(
            "sconce_tokens_cached_total",
            "Prompt tokens that the prefix cache spared.",
            stats.tokens_cached,
        ),
        metric("sconce_preemptions_total", "Sequences that made room and were run again.", stats.preemptions),
    ]
}
