use std::collections::HashMap;

use sconce::engine::kv_cache::{Block, Content, Key, KvCache};

use crate::dice::Dice;

fn chain(seed: u64, length: u32) -> Vec<Content> {
    let mut parent = Key::root(seed);
    (0..length)
        .map(|number| {
            let content = Content { parent, tokens: [number; 16] };
            parent = content.key();
            content
        })
        .collect()
}

fn ids(blocks: &[Block]) -> Vec<u32> {
    blocks.iter().map(Block::id).collect()
}

#[test]
fn blocks_are_given_once_and_all_or_none() {
    let cache = KvCache::new(4, true);
    let first = cache.take(3).unwrap();
    assert!(cache.take(2).is_none());
    assert_eq!(cache.free(), 1);
    let second = cache.take(1).unwrap();
    let mut all = [ids(&first), ids(&second)].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    drop(first);
    assert_eq!(cache.free(), 3);
    assert_eq!(cache.take(0).unwrap().len(), 0);
}

#[test]
fn a_shared_block_is_free_after_its_last_holder() {
    let cache = KvCache::new(1, true);
    let block = cache.take(1).unwrap();
    let other = block.clone();
    drop(block);
    assert_eq!(cache.free(), 0);
    drop(other);
    assert_eq!(cache.free(), 1);
}

#[test]
fn prefixes_are_found_held_or_free_until_evicted() {
    let cache = KvCache::new(3, true);
    let contents = chain(0, 3);
    let blocks = cache.take(2).unwrap();
    cache.publish(&blocks[0], contents[0]);
    cache.publish(&blocks[1], contents[1]);
    assert_eq!(ids(&cache.find(&contents)), ids(&blocks));
    let places = ids(&blocks);
    drop(blocks);
    assert_eq!(cache.usage().cached, 2);
    let found = cache.find(&contents);
    assert_eq!(ids(&found), places);
    assert_eq!((cache.usage().cached, cache.free()), (0, 1));
    // Back to front, as a sequence gives them back: the first stays the longest.
    found.into_iter().rev().for_each(drop);
    let taken = cache.take(2).unwrap();
    assert_eq!(ids(&cache.find(&contents)), places[..1]);
    drop(taken);
    assert!(cache.find(&contents[1..]).is_empty());
}

#[test]
fn what_is_known_depends_on_tokens_parents_and_seed() {
    let cache = KvCache::new(1, true);
    let block = cache.take(1).unwrap();
    cache.publish(&block[0], chain(0, 2)[1]);
    assert!(cache.find(&chain(0, 2)[..1]).is_empty());
    assert!(cache.find(&chain(1, 2)[1..]).is_empty());
    assert!(cache.find(&[Content { parent: Key::root(0), tokens: [1; 16] }]).is_empty());
    assert_eq!(cache.find(&chain(0, 2)[1..]).len(), 1);
}

#[test]
fn the_block_that_begins_with_the_most_tokens_is_found() {
    let cache = KvCache::new(40, true);
    let mut dice = Dice(5);
    let parents = [Key::root(0), Key::root(1)];
    let mut known: Vec<(u32, Content)> = Vec::new();
    for block in cache.take(40).unwrap() {
        let tokens = std::array::from_fn(|_| dice.below(3) as u32);
        let content = Content { parent: dice.pick(&parents), tokens };
        known.push((block.id(), content));
        cache.publish(&block, content);
    }
    for _ in 0..2_000 {
        let (parent, length) = (dice.pick(&parents), dice.below(16));
        let wanted: Vec<u32> = (0..length).map(|_| dice.below(3) as u32).collect();
        let alike = |tokens: &[u32]| tokens.iter().zip(&wanted).take_while(|(a, b)| a == b).count();
        let of_parent = known.iter().filter(|(_, content)| content.parent == parent);
        let most = of_parent.map(|(_, content)| alike(&content.tokens)).max().unwrap();
        let Some((block, count)) = cache.find_beginning(parent, &wanted) else {
            assert_eq!(most, 0, "{wanted:?}");
            continue;
        };
        assert_eq!((count, cache.usage().held), (most, 1), "{wanted:?}");
        let (_, content) = known.iter().find(|(id, _)| *id == block.id()).unwrap();
        assert_eq!((content.parent, alike(&content.tokens)), (parent, most));
    }
    assert!(cache.find_beginning(Key::root(2), &[0, 1, 2]).is_none());
    assert_eq!((cache.usage().held, cache.usage().cached), (0, 40));
}

#[test]
fn without_prefix_cache_nothing_is_found() {
    let cache = KvCache::new(1, false);
    let block = cache.take(1).unwrap();
    let contents = chain(0, 1);
    cache.publish(&block[0], contents[0]);
    assert!(cache.find(&contents).is_empty() && cache.find_beginning(Key::root(0), &[0; 15]).is_none());
    drop(block);
    assert!(cache.find(&contents).is_empty());
    assert_eq!(cache.usage().cached, 0);
}

#[test]
fn what_is_forgotten_is_not_found_but_still_held() {
    let cache = KvCache::new(2, true);
    let contents = chain(0, 2);
    let blocks = cache.take(2).unwrap();
    cache.publish(&blocks[0], contents[0]);
    cache.publish(&blocks[1], contents[1]);
    let mut blocks = blocks.into_iter();
    drop(blocks.next());
    cache.forget();
    assert!(cache.find(&contents).is_empty() && cache.find(&contents[1..]).is_empty());
    assert_eq!(cache.usage().held, 1);
    drop(blocks);
    assert_eq!((cache.free(), cache.usage().cached), (2, 0));
}

/// What the cache must be equal to, without any structure.
#[derive(Default)]
struct Model {
    holders: HashMap<u32, usize>,
    contents: HashMap<u32, Content>,
    /// Free blocks with content, least recently used first.
    order: Vec<u32>,
}

impl Model {
    fn hold(&mut self, id: u32) {
        *self.holders.entry(id).or_default() += 1;
        self.order.retain(|other| *other != id);
    }

    fn give_back(&mut self, id: u32) {
        let holders = self.holders.get_mut(&id).expect("a block that somebody holds");
        *holders -= 1;
        if *holders == 0 {
            self.holders.remove(&id);
            if self.contents.contains_key(&id) {
                self.order.push(id);
            }
        }
    }

    fn knows(&self, content: &Content) -> Option<u32> {
        self.contents.iter().find(|(_, other)| *other == content).map(|(id, _)| *id)
    }
}

#[test]
fn random_operations_agree_with_a_simple_model() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let total = dice.between(1, 24);
        let cache = KvCache::new(total as u32, true);
        let mut model = Model::default();
        let mut held: Vec<Block> = Vec::new();
        let chains: Vec<Vec<Content>> = (0..3).map(|seed| chain(seed, 6)).collect();
        for _ in 0..1_000 {
            match dice.below(6) {
                0 => {
                    let count = dice.below(total + 2);
                    let free = total - model.holders.len();
                    let taken = cache.take(count);
                    assert_eq!(taken.is_some(), count <= free);
                    // Blank blocks go first, then the least recently used contents.
                    let blank = free - model.order.len();
                    let lost = if taken.is_some() { count.saturating_sub(blank) } else { 0 };
                    for id in model.order.drain(..lost) {
                        model.contents.remove(&id);
                    }
                    for block in taken.into_iter().flatten() {
                        assert!(!model.holders.contains_key(&block.id()), "a block that is in use");
                        assert!(!model.contents.contains_key(&block.id()), "a block that was not its turn");
                        model.hold(block.id());
                        held.push(block);
                    }
                }
                1 | 2 if !held.is_empty() => {
                    let block = held.swap_remove(dice.below(held.len()));
                    model.give_back(block.id());
                    drop(block);
                }
                3 if !held.is_empty() => {
                    let block = &held[dice.below(held.len())];
                    let chain = dice.below(3);
                    let content = dice.pick(&chains[chain]);
                    if model.knows(&content).is_none() && !model.contents.contains_key(&block.id()) {
                        model.contents.insert(block.id(), content);
                    }
                    cache.publish(block, content);
                }
                4 => {
                    let contents = &chains[dice.below(3)];
                    let expected: Vec<u32> =
                        contents.iter().map_while(|content| model.knows(content)).collect();
                    let found = cache.find(contents);
                    assert_eq!(ids(&found), expected);
                    for block in found {
                        model.hold(block.id());
                        held.push(block);
                    }
                }
                5 if dice.chance(2) => {
                    cache.forget();
                    model.contents.clear();
                    model.order.clear();
                }
                _ => {}
            }
            let usage = cache.usage();
            assert_eq!((usage.held, usage.cached), (model.holders.len(), model.order.len()));
            assert_eq!(cache.free(), total - usage.held);
        }
        held.clear();
        assert_eq!(cache.free(), total);
    }
}
