//! Random operations on the scheduler: what must hold after each step, whatever came before.

use std::collections::{BTreeMap, HashSet};

use sconce::{
    engine::{
        Sequence, SequenceId,
        scheduler::{Limits, Run, Scheduler},
    },
    model::{BLOCK, Rows},
};

use crate::{
    dice::Dice,
    scheduler::{ends, scheduler},
};

struct World {
    scheduler: Scheduler,
    limits: Limits,
    blocks: usize,
    /// Length at which each sequence is done.
    goals: BTreeMap<SequenceId, usize>,
    next: u64,
}

impl World {
    fn new(dice: &mut Dice) -> Self {
        let blocks = dice.between(4, 30);
        let limits = Limits { tokens: dice.pick(&[1, 5, 16, 40, 500]), sequences: dice.pick(&[1, 3, 16]) };
        let scheduler = scheduler(blocks as u32, dice.chance(50), limits.tokens, limits.sequences);
        Self { scheduler, limits, blocks, goals: BTreeMap::new(), next: 0 }
    }

    fn add(&mut self, dice: &mut Dice) {
        let longest = self.blocks * BLOCK;
        let length = dice.between(1, longest);
        // Few distinct prompts, so that prefixes are found.
        let prompt: Vec<u32> = Dice(dice.below(3) as u64).tokens(length, 50);
        let scored = dice.chance(10);
        for choice in 0..dice.pick(&[1, 1, 2, 4]) {
            let id = SequenceId { request: self.next, choice };
            self.goals.insert(id, dice.between(length + 1, longest + 1));
            self.scheduler.add(id, Sequence::new(prompt.clone(), 0, scored && choice == 0));
        }
        self.next += 1;
    }

    fn random_request(&self, dice: &mut Dice) -> Option<u64> {
        let ids: Vec<u64> = self.goals.keys().map(|id| id.request).collect();
        (!ids.is_empty()).then(|| dice.pick(&ids))
    }

    fn remove(&mut self, request: u64) {
        self.scheduler.remove_request(request);
        self.goals.retain(|id, _| id.request != request);
    }

    fn step(&mut self, dice: &mut Dice) {
        let had_work = self.scheduler.has_work();
        let batch = self.scheduler.schedule();
        assert_eq!(batch.is_empty(), !had_work, "a step is empty only when all is paused");
        self.check_batch(&batch);
        self.check_blocks(&batch);
        for run in &batch {
            self.scheduler.computed(run);
            if !ends(&self.scheduler, run) {
                continue;
            }
            if self.scheduler.sequence(run.id).unwrap().tokens().len() + 1 == self.goals[&run.id] {
                self.scheduler.remove(run.id);
                self.goals.remove(&run.id);
            } else {
                self.scheduler.push(run.id, dice.below(50) as u32);
            }
        }
    }

    fn check_batch(&self, batch: &[Run]) {
        assert!(batch.len() <= self.limits.sequences);
        assert!(batch.iter().map(|run| run.len).sum::<usize>() <= self.limits.tokens);
        let ids: HashSet<SequenceId> = batch.iter().map(|run| run.id).collect();
        assert_eq!(ids.len(), batch.len(), "a sequence runs twice");
        for run in batch {
            let sequence = self.scheduler.sequence(run.id).unwrap();
            let end = run.start + run.len;
            assert!(!sequence.is_paused() && run.len > 0);
            assert_eq!(run.start, sequence.tokens().len() - sequence.remaining());
            assert!(end <= sequence.tokens().len() && end <= sequence.blocks().len() * BLOCK);
            assert_eq!(run.rows == Rows::None, run.rows != Rows::All && end < sequence.tokens().len());
        }
    }

    /// Blocks are shared only where the tokens up to their end are equal, and never with one who writes.
    fn check_blocks(&self, batch: &[Run]) {
        let mut owners: BTreeMap<u32, (usize, &[u32])> = BTreeMap::new();
        for (_, sequence) in self.scheduler.sequences() {
            let tokens = sequence.tokens();
            assert!(sequence.blocks().is_empty() || sequence.blocks().len() <= tokens.len().div_ceil(BLOCK));
            for (place, block) in sequence.blocks().iter().enumerate() {
                let content = &tokens[..tokens.len().min((place + 1) * BLOCK)];
                let (other_place, other) = *owners.entry(*block).or_insert((place, content));
                assert!(other_place == place && other == content, "two sequences in one block");
            }
        }
        let mut held: HashSet<u32> = owners.keys().copied().collect();
        held.extend(self.scheduler.copies(batch).iter().map(|(source, _)| source));
        assert_eq!(self.scheduler.cache().usage().held, held.len(), "blocks that nobody has are held");
        let copies = self.scheduler.copies(batch);
        for (number, &(source, copy)) in copies.iter().enumerate() {
            assert!(copies[number + 1..].iter().all(|(_, later)| *later != copy), "two copies to one place");
            assert!(source != copy && owners.contains_key(&copy));
        }
        for run in batch {
            let own = self.scheduler.sequence(run.id).unwrap().blocks();
            for block in &own[run.start / BLOCK..(run.start + run.len).div_ceil(BLOCK)] {
                let holders = self.scheduler.sequences().filter(|(_, other)| other.blocks().contains(block));
                assert_eq!(holders.count(), 1, "a block is written to that another has too");
            }
        }
    }
}

#[test]
fn random_operations_keep_every_promise() {
    let mut preemptions = 0;
    for seed in 0..200 {
        let mut dice = Dice(seed);
        let mut world = World::new(&mut dice);
        for _ in 0..300 {
            match dice.below(12) {
                0 | 1 if world.goals.len() < 24 => world.add(&mut dice),
                2 if dice.chance(40) => {
                    if let Some(request) = world.random_request(&mut dice) {
                        world.remove(request);
                    }
                }
                3 | 4 => {
                    if let Some(request) = world.random_request(&mut dice) {
                        world.scheduler.pause(request, dice.chance(50));
                    }
                }
                _ => world.step(&mut dice),
            }
        }
        // Nothing is paused any more: all of it must come to its end.
        for request in 0..world.next {
            world.scheduler.pause(request, false);
        }
        let mut steps = 0;
        while world.scheduler.has_work() {
            world.step(&mut dice);
            steps += 1;
            assert!(steps < 200_000, "seed {seed} comes to no end");
        }
        assert!(world.goals.is_empty());
        assert_eq!(world.scheduler.cache().usage().held, 0);
        preemptions += world.scheduler.preemptions();
    }
    assert!(preemptions > 1_000, "{preemptions} preemptions are too few to prove anything");
}
