//! The blocks of the KV cache: who holds them, and which prefixes of sequences they still contain.
//!
//! A [`Block`] is a right to one place of the arena. It can be cloned to share it and comes back by being dropped; the
//! reference count is `Rc`'s own. Nothing else gives a block back, so none comes back twice or while it is in use.
//! A block that was published (full, computed, never written again) keeps its content after its last holder left, until
//! it is the least recently used of the free ones and a new block is needed.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    rc::{Rc, Weak},
};

use sha2::{Digest, Sha256};

use crate::model::BLOCK;

/// Names all tokens from the start of a sequence to the end of one of its blocks. Cryptographic: a collision would
/// continue one client's text from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// Before the first block. `seed` stands for what keys and values depend on besides the tokens.
    #[must_use]
    pub fn root(seed: u64) -> Self {
        Self(Sha256::digest(seed.to_le_bytes()).into())
    }

    /// Of these tokens after those that `self` names.
    #[must_use]
    pub fn child(&self, tokens: &[u32]) -> Self {
        let mut hash = Sha256::new_with_prefix(self.0);
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// What a full block holds: its tokens, after those that `parent` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    pub parent: Key,
    pub tokens: [u32; BLOCK],
}

impl Content {
    /// What the block after this one has as its parent.
    #[must_use]
    pub fn key(&self) -> Key {
        self.parent.child(&self.tokens)
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

    /// The blocks of the longest known prefix of a sequence whose blocks hold this.
    #[must_use]
    pub fn find(&self, contents: &[Content]) -> Vec<Block> {
        let mut pool = self.pool.borrow_mut();
        let mut found = Vec::new();
        for content in contents {
            let Some(&id) = pool.index.get(content) else { break };
            found.push(self.hold_known(&mut pool, id));
        }
        found
    }

    /// The block after `parent` that begins with the most of `tokens`, fewer than a block has, and with how many.
    #[must_use]
    pub fn find_beginning(&self, parent: Key, tokens: &[u32]) -> Option<(Block, usize)> {
        let mut pool = self.pool.borrow_mut();
        let mut wanted = Content { parent, tokens: [0; BLOCK] };
        wanted.tokens[..tokens.len()].copy_from_slice(tokens);
        // In the order of their tokens those that begin alike are neighbours.
        let neighbours = [pool.index.range(..&wanted).next_back(), pool.index.range(&wanted..).next()];
        let alike = |content: &Content| {
            if content.parent != parent {
                return 0;
            }
            content.tokens.iter().zip(tokens).take_while(|(known, token)| known == token).count()
        };
        let counted = neighbours.into_iter().flatten().map(|(content, id)| (alike(content), *id));
        let (count, id) = counted.max_by_key(|(count, _)| *count).filter(|(count, _)| *count > 0)?;
        Some((self.hold_known(&mut pool, id), count))
    }

    /// Makes a block known by its content. It must be full and computed, and nothing may be written to it from now on.
    pub fn publish(&self, block: &Block, content: Content) {
        if !self.prefix_cache {
            return;
        }
        let mut pool = self.pool.borrow_mut();
        // Sequences that ran side by side may have computed the same content twice: the first one stays known.
        if pool.index.contains_key(&content) || pool.places[block.id() as usize].content.is_some() {
            return;
        }
        pool.index.insert(content, block.id());
        pool.places[block.id() as usize].content = Some(content);
    }

    /// Forgets all contents. Who holds blocks keeps them.
    pub fn forget(&self) {
        let mut pool = self.pool.borrow_mut();
        pool.index.clear();
        let cached = std::mem::take(&mut pool.cached);
        pool.blank.extend(cached.into_values());
        for place in &mut pool.places {
            place.content = None;
        }
    }

    /// A block with content, whether somebody holds it or not.
    fn hold_known(&self, pool: &mut Pool, id: u32) -> Block {
        let place = &pool.places[id as usize];
        match place.holders.upgrade() {
            Some(held) => Block(held),
            None => {
                let stamp = place.freed;
                pool.cached.remove(&stamp);
                self.hold(pool, id)
            }
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
    index: BTreeMap<Content, u32>,
    clock: u64,
}

#[derive(Default)]
struct Place {
    content: Option<Content>,
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
            if let Some(content) = self.places[id as usize].content.take() {
                self.index.remove(&content);
            }
            Some(id)
        })
    }

    fn give_back(&mut self, id: u32) {
        let place = &mut self.places[id as usize];
        if place.content.is_none() {
            self.blank.push(id);
        } else {
            self.clock += 1;
            place.freed = self.clock;
            self.cached.insert(self.clock, id);
        }
    }
}
