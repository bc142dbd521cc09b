use sconce::{
    engine::{
        Sequence, SequenceId,
        kv_cache::KvCache,
        scheduler::{Limits, Run, Scheduler},
    },
    model::Rows,
};

pub(crate) fn scheduler(blocks: u32, prefix_cache: bool, tokens: usize, sequences: usize) -> Scheduler {
    Scheduler::new(KvCache::new(blocks, prefix_cache), Limits { tokens, sequences })
}

fn id(request: u64, choice: u32) -> SequenceId {
    SequenceId { request, choice }
}

fn add(scheduler: &mut Scheduler, request: u64, prompt: u32) {
    scheduler.add(id(request, 0), Sequence::new((0..prompt).collect(), 0, false));
}

/// One step of a model that continues with token 7: what ran, as (request, choice, start, length).
fn step(scheduler: &mut Scheduler) -> Vec<(u64, u32, usize, usize)> {
    let batch = scheduler.schedule();
    for run in &batch {
        scheduler.computed(run);
        if run.rows != Rows::None && ends(scheduler, run) {
            scheduler.push(run.id, 7);
        }
    }
    batch.iter().map(|run| (run.id.request, run.id.choice, run.start, run.len)).collect()
}

pub(crate) fn ends(scheduler: &Scheduler, run: &Run) -> bool {
    scheduler.sequence(run.id).unwrap().tokens().len() == run.start + run.len
}

fn held(scheduler: &Scheduler) -> usize {
    scheduler.cache().usage().held
}

#[test]
fn decode_rows_come_first_and_prompts_fill_the_budget_oldest_first() {
    let mut scheduler = scheduler(64, false, 10, 8);
    add(&mut scheduler, 1, 4);
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 4)]);
    add(&mut scheduler, 2, 12);
    add(&mut scheduler, 3, 12);
    assert_eq!(step(&mut scheduler), [(1, 0, 4, 1), (2, 0, 0, 9)]);
    assert_eq!(step(&mut scheduler), [(1, 0, 5, 1), (2, 0, 9, 3), (3, 0, 0, 6)]);
    assert_eq!(step(&mut scheduler), [(1, 0, 6, 1), (2, 0, 12, 1), (3, 0, 6, 6)]);
}

#[test]
fn a_step_has_no_more_sequences_than_allowed() {
    let mut scheduler = scheduler(64, false, 100, 2);
    (1..=3).for_each(|request| add(&mut scheduler, request, 4));
    assert_eq!(step(&mut scheduler).len(), 2);
    scheduler.remove(id(1, 0));
    assert_eq!(step(&mut scheduler), [(2, 0, 4, 1), (3, 0, 0, 4)]);
}

#[test]
fn who_grows_takes_from_the_youngest() {
    let mut scheduler = scheduler(4, false, 100, 8);
    add(&mut scheduler, 1, 31);
    add(&mut scheduler, 2, 16);
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 31), (2, 0, 0, 16)]);
    // Both write their last place, then need a block each: one is free, and the second's own is the youngest's.
    assert_eq!(step(&mut scheduler), [(1, 0, 31, 1), (2, 0, 16, 1)]);
    assert_eq!(held(&scheduler), 4);
    assert_eq!(step(&mut scheduler), [(1, 0, 32, 1)]);
    assert_eq!((held(&scheduler), scheduler.preemptions()), (3, 1));
    // It starts over, prompt and answer together, once there is room.
    scheduler.remove(id(1, 0));
    assert_eq!(step(&mut scheduler), [(2, 0, 0, 18)]);
}

#[test]
fn nobody_overtakes_who_waits_for_room() {
    let mut scheduler = scheduler(6, false, 100, 8);
    add(&mut scheduler, 1, 40);
    add(&mut scheduler, 2, 70);
    add(&mut scheduler, 3, 4);
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 40)]);
    assert_eq!(step(&mut scheduler), [(1, 0, 40, 1)]);
    scheduler.remove(id(1, 0));
    assert_eq!(step(&mut scheduler), [(2, 0, 0, 70)]);
}

#[test]
fn a_paused_sequence_keeps_its_blocks_until_they_are_needed() {
    let mut scheduler = scheduler(6, false, 100, 8);
    add(&mut scheduler, 1, 40);
    step(&mut scheduler);
    scheduler.pause(1, true);
    assert!(step(&mut scheduler).is_empty() && !scheduler.has_work());
    assert_eq!(held(&scheduler), 3);
    add(&mut scheduler, 2, 30);
    assert_eq!(step(&mut scheduler), [(2, 0, 0, 30)]);
    assert_eq!(held(&scheduler), 5);
    add(&mut scheduler, 3, 30);
    assert_eq!(step(&mut scheduler), [(2, 0, 30, 1), (3, 0, 0, 30)]);
    assert_eq!(held(&scheduler), 4);
    scheduler.pause(1, false);
    // The one whose turn it is again waits: the others run to their end.
    assert_eq!(step(&mut scheduler).len(), 2);
    scheduler.remove_request(2);
    assert_eq!(step(&mut scheduler), [(3, 0, 31, 1), (1, 0, 0, 41)]);
}

#[test]
fn a_sequence_that_is_removed_in_the_middle_of_its_prompt_frees_everything() {
    let mut scheduler = scheduler(64, true, 16, 8);
    add(&mut scheduler, 1, 1_000);
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 16)]);
    assert_eq!(held(&scheduler), 63);
    scheduler.remove_request(1);
    assert_eq!(held(&scheduler), 0);
    assert!(!scheduler.has_work());
}

#[test]
fn a_known_prefix_is_not_run_again_but_one_token_always_is() {
    let mut scheduler = scheduler(64, true, 100, 8);
    add(&mut scheduler, 1, 50);
    step(&mut scheduler);
    add(&mut scheduler, 2, 40);
    add(&mut scheduler, 3, 48);
    assert_eq!(step(&mut scheduler), [(1, 0, 50, 1), (2, 0, 39, 1), (3, 0, 47, 1)]);
    assert_eq!(scheduler.sequence(id(2, 0)).unwrap().cached(), Some(39));
    // 4 blocks of the first, 1 of each of the others.
    assert_eq!(held(&scheduler), 6);
}

#[test]
fn a_block_that_begins_alike_is_copied_where_there_is_room_for_both() {
    let prompt = |own: u32| Sequence::new((0..36).chain([own; 12]).collect(), 0, false);
    let mut scheduler = scheduler(7, true, 100, 8);
    scheduler.add(id(1, 0), prompt(100));
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 48)]);
    let source = scheduler.sequence(id(1, 0)).unwrap().blocks()[2];
    scheduler.add(id(2, 0), prompt(200));
    let batch = scheduler.schedule();
    assert_eq!((batch[1].start, batch[1].len), (36, 12));
    let own = scheduler.sequence(id(2, 0)).unwrap().blocks()[2];
    assert_eq!(scheduler.copies(&batch), [(source, own)]);
    batch.iter().for_each(|run| scheduler.computed(run));
    assert!(scheduler.copies(&batch).is_empty());
    scheduler.remove_request(1);
    scheduler.remove_request(2);
    // It needs all seven blocks: two are known, and the one to copy from must make room.
    scheduler.add(id(3, 0), Sequence::new((0..36).chain([300; 70]).collect(), 0, false));
    assert_eq!(step(&mut scheduler), [(3, 0, 32, 74)]);
    assert_eq!(held(&scheduler), 7);
}

#[test]
fn the_end_of_a_known_prefix_is_forgotten_before_its_beginning() {
    let mut scheduler = scheduler(5, true, 100, 8);
    add(&mut scheduler, 1, 65);
    step(&mut scheduler);
    scheduler.remove_request(1);
    // One block was never full; of the four others the last two go.
    scheduler.add(id(2, 0), Sequence::new(vec![9; 40], 0, false));
    assert_eq!(step(&mut scheduler), [(2, 0, 0, 40)]);
    scheduler.remove_request(2);
    add(&mut scheduler, 3, 65);
    assert_eq!(step(&mut scheduler), [(3, 0, 32, 33)]);
}

#[test]
fn rows_of_a_prompt_are_computed_even_if_its_prefix_is_known() {
    let mut scheduler = scheduler(64, true, 100, 8);
    add(&mut scheduler, 1, 50);
    step(&mut scheduler);
    scheduler.remove_request(1);
    scheduler.add(id(2, 0), Sequence::new((0..80).collect(), 0, true));
    let batch = scheduler.schedule();
    assert_eq!(batch, [Run { id: id(2, 0), start: 0, len: 64, rows: Rows::All }]);
    scheduler.computed(&batch[0]);
    assert_eq!(scheduler.schedule(), [Run { id: id(2, 0), start: 64, len: 16, rows: Rows::All }]);
}

#[test]
fn rows_of_one_prompt_only_are_computed_in_a_step() {
    let mut scheduler = scheduler(64, true, 500, 8);
    for request in 1..=2 {
        scheduler.add(id(request, 0), Sequence::new((0..80).collect(), 0, true));
    }
    add(&mut scheduler, 3, 4);
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 64), (3, 0, 0, 4)]);
    assert_eq!(step(&mut scheduler), [(3, 0, 4, 1), (1, 0, 64, 16)]);
    assert_eq!(step(&mut scheduler), [(1, 0, 80, 1), (3, 0, 5, 1), (2, 0, 0, 64)]);
}

fn choices_share_their_prompt(prefix_cache: bool) {
    let mut scheduler = scheduler(64, prefix_cache, 50, 8);
    for choice in 0..3 {
        scheduler.add(id(1, choice), Sequence::new((0..70).collect(), 0, false));
    }
    scheduler.add(id(2, 0), Sequence::new(vec![9; 4], 0, false));
    // The others wait for the first one's prompt, and nobody waits for them meanwhile.
    assert_eq!(step(&mut scheduler), [(1, 0, 0, 50)]);
    assert_eq!(step(&mut scheduler), [(1, 0, 50, 20), (2, 0, 0, 4)]);
    assert_eq!(step(&mut scheduler), [(1, 0, 70, 1), (2, 0, 4, 1), (1, 1, 69, 1), (1, 2, 69, 1)]);
    let blocks = |choice| scheduler.sequence(id(1, choice)).unwrap().blocks();
    assert_eq!(blocks(0)[..4], blocks(1)[..4]);
    assert_eq!(blocks(0)[..4], blocks(2)[..4]);
    assert_eq!(held(&scheduler), 4 + 3 + 1);
    scheduler.remove(id(1, 0));
    assert_eq!(held(&scheduler), 4 + 2 + 1);
    scheduler.remove_request(1);
    assert_eq!(held(&scheduler), 1);
}

#[test]
fn choices_share_their_prompt_with_and_without_prefix_cache() {
    choices_share_their_prompt(true);
    choices_share_their_prompt(false);
}

#[test]
fn small_requests_that_never_cease_do_not_starve_a_large_one() {
    let mut scheduler = scheduler(10, false, 32, 4);
    let mut next = 1;
    let mut small = |scheduler: &mut Scheduler| {
        add(scheduler, next, 20);
        next += 1;
        if next == 5 {
            // It takes nearly all blocks there are.
            add(scheduler, next, 150);
            next += 1;
        }
    };
    for _ in 0..60 {
        small(&mut scheduler);
        for (request, choice, ..) in step(&mut scheduler) {
            let sequence = scheduler.sequence(id(request, choice)).unwrap();
            if request == 5 && sequence.tokens().len() == 155 {
                return;
            }
            if request != 5 && sequence.tokens().len() == 23 {
                scheduler.remove_request(request);
            }
        }
    }
    panic!("the large request is not done after 60 steps");
}
