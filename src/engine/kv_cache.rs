//! The blocks of the KV cache: who holds them, and which prefixes of sequences they still contain.
//!
//! A [`Block`] is a right to one place of the arena. It can be cloned to share it and comes back by being dropped; the
//! reference count is `Rc`'s own. Nothing else gives a block back, so none comes back twice or while it is in use.
//! A block that was published (full, computed, never written again) keeps its content after its last holder left, until
//! it is the least recently used of the free ones and a new block is needed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    fmt,
    rc::{Rc, Weak},
};

use sha2::{Digest, Sha256};

/// Names the content of a block by all tokens from the start of the sequence to the block's end. Cryptographic: a
/// collision would continue one client's text from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Before the first block. `seed` stands for what keys and values depend on besides the tokens.
    #[must_use]
    pub fn root(seed: u64) -> Self {
        Self(Sha256::digest(seed.to_le_bytes()).into())
    }

    /// Of the block with these tokens after the one that `self` names.
    #[must_use]
    pub fn child(&self, tokens: &[u32]) -> Self {
        let mut hash = Sha256::new_with_prefix(self.0);
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// Holds one block; see the module.
#[derive(Clone)]
pub struct Block(Rc<Held>);

struct Held {
    id: u32,
    pool: Rc<RefCell<Pool>>,
}

impl Block {
    /// Its number in the arena.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Block({})", self.0.id)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.pool.borrow_mut().give_back(self.id);
    }
}

/// How the blocks are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub total: usize,
    /// Held by at least one sequence.
    pub held: usize,
    /// Free, but with a content that a new sequence may take up.
    pub cached: usize,
}

/// The arena's blocks. Belongs to one thread, the engine's.
pub struct KvCache {
    pool: Rc<RefCell<Pool>>,
    prefix_cache: bool,
}

impl KvCache {
    /// Blocks are numbered from 0 to `blocks` - 1. Without `prefix_cache` nothing is ever found again.
    #[must_use]
    pub fn new(blocks: u32, prefix_cache: bool) -> Self {
        let places = (0..blocks).map(|_| Place::default()).collect();
        let pool = Pool { places, blank: (0..blocks).rev().collect(), ..Pool::default() };
        Self { pool: Rc::new(RefCell::new(pool)), prefix_cache }
    }

    #[must_use]
    pub fn finds_prefixes(&self) -> bool {
        self.prefix_cache
    }

    #[must_use]
    pub fn usage(&self) -> Usage {
        let pool = self.pool.borrow();
        let total = pool.places.len();
        Usage { total, held: total - pool.free(), cached: pool.cached.len() }
    }

    /// Blocks that [`take`](Self::take) could give now.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pool.borrow().free()
    }

    /// `count` blocks without content, or none at all when fewer are free.
    #[must_use]
    pub fn take(&self, count: usize) -> Option<Vec<Block>> {
        let mut pool = self.pool.borrow_mut();
        if pool.free() < count {
            return None;
        }
        let ids: Vec<u32> = (0..count).map_while(|_| pool.evict()).collect();
        Some(ids.into_iter().map(|id| self.hold(&mut pool, id)).collect())
    }

    /// The blocks of the longest known prefix of a sequence whose blocks have these keys.
    #[must_use]
    pub fn find(&self, keys: &[Key]) -> Vec<Block> {
        let mut pool = self.pool.borrow_mut();
        let mut found = Vec::new();
        for key in keys {
            let Some(&id) = pool.index.get(key) else { break };
            let place = &mut pool.places[id as usize];
            let block = match place.holders.upgrade() {
                Some(held) => Block(held),
                None => {
                    let stamp = place.freed;
                    pool.cached.remove(&stamp);
                    self.hold(&mut pool, id)
                }
            };
            found.push(block);
        }
        found
    }

    /// Makes a block known by its content. It must be full and computed, and nothing may be written to it from now on.
    pub fn publish(&self, block: &Block, key: Key) {
        if !self.prefix_cache {
            return;
        }
        let mut pool = self.pool.borrow_mut();
        // Sequences that ran side by side may have computed the same content twice: the first one stays known.
        if pool.index.contains_key(&key) || pool.places[block.id() as usize].key.is_some() {
            return;
        }
        pool.index.insert(key, block.id());
        pool.places[block.id() as usize].key = Some(key);
    }

    /// Forgets all contents. Who holds blocks keeps them.
    pub fn forget(&self) {
        let mut pool = self.pool.borrow_mut();
        pool.index.clear();
        let cached = std::mem::take(&mut pool.cached);
        pool.blank.extend(cached.into_values());
        for place in &mut pool.places {
            place.key = None;
        }
    }

    fn hold(&self, pool: &mut Pool, id: u32) -> Block {
        let held = Rc::new(Held { id, pool: Rc::clone(&self.pool) });
        pool.places[id as usize].holders = Rc::downgrade(&held);
        Block(held)
    }
}

/// Its borrows never last while a [`Block`] is dropped.
#[derive(Default)]
struct Pool {
    places: Vec<Place>,
    /// Free blocks without content.
    blank: Vec<u32>,
    /// Free blocks with content, by the time they became free.
    cached: BTreeMap<u64, u32>,
    /// Blocks with content, free or held.
    index: HashMap<Key, u32>,
    clock: u64,
}

#[derive(Default)]
struct Place {
    key: Option<Key>,
    holders: Weak<Held>,
    /// Its time in [`Pool::cached`].
    freed: u64,
}

impl Pool {
    fn free(&self) -> usize {
        self.blank.len() + self.cached.len()
    }

    /// A free block; if none is blank, the one whose content was not used for the longest time.
    fn evict(&mut self) -> Option<u32> {
        self.blank.pop().or_else(|| {
            let (_, id) = self.cached.pop_first()?;
            if let Some(key) = self.places[id as usize].key.take() {
                self.index.remove(&key);
            }
            Some(id)
        })
    }

    fn give_back(&mut self, id: u32) {
        let place = &mut self.places[id as usize];
        if place.key.is_none() {
            self.blank.push(id);
        } else {
            self.clock += 1;
            place.freed = self.clock;
            self.cached.insert(self.clock, id);
        }
    }
}
