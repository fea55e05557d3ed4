//! What is kept, bounded in bytes and in time: the least recently used goes first, and what is too old goes unasked.
//!
//! Pure: `now` is handed in, and nothing here knows a lock or a thread. What is taken out is handed back, so that its memory
//! is given back outside the lock.
//!
//! **Invariants.** I4: entries with all that they cost, and what recordings have reserved, are never more than the limit.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::key::Key;

/// What the tables may take, as a multiple of what stands in them: a hash table is up to 2.3 times as large as its entries
/// right after it has grown, a node of a tree up to 2.2 times.
const SLACK: usize = 3;

/// Entries by their keys.
#[derive(Debug)]
pub(super) struct Store<V> {
    limit: usize,
    ttl: Duration,
    entries: HashMap<Key, Entry<V>>,
    /// The keys by their last use.
    used: BTreeMap<u64, Key>,
    /// The keys by their age; all live equally long, so that the first is the next to expire.
    born: BTreeMap<u64, Key>,
    /// The next number of a use or a birth.
    next: u64,
    bytes: usize,
    reserved: usize,
    evicted: u64,
    expired: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    cost: usize,
    since: Instant,
    used: u64,
    born: u64,
}

impl<V> Store<V> {
    /// What an entry costs beside its value.
    pub(super) const OVERHEAD: usize = SLACK * (size_of::<(Key, Entry<V>)>() + 1 + 2 * size_of::<(u64, Key)>());

    /// An empty store of `limit` bytes, whose entries are good for `ttl`.
    pub(super) fn new(limit: usize, ttl: Duration) -> Self {
        Self {
            limit,
            ttl,
            entries: HashMap::new(),
            used: BTreeMap::new(),
            born: BTreeMap::new(),
            next: 0,
            bytes: 0,
            reserved: 0,
            evicted: 0,
            expired: 0,
        }
    }

    /// The value under `key`, with its age, unless it is too old: then it goes into `gone`.
    pub(super) fn get(&mut self, key: &Key, now: Instant, gone: &mut Vec<V>) -> Option<(&V, Duration)> {
        let entry = self.entries.get_mut(key)?;
        let age = now.saturating_duration_since(entry.since);
        if age >= self.ttl {
            self.expired += 1;
            gone.extend(self.remove(*key));
            return None;
        }
        self.used.remove(&entry.used);
        entry.used = self.next;
        self.used.insert(self.next, *key);
        self.next += 1;
        self.entries.get(key).map(|entry| (&entry.value, age))
    }

    /// Keeps `value`, which takes `bytes`, in the place of what is under `key`; or not, if there is no room for it. What has
    /// to go for it, `value` itself if it is not kept, goes into `gone`.
    pub(super) fn insert(&mut self, key: Key, value: V, bytes: usize, now: Instant, gone: &mut Vec<V>) -> bool {
        gone.extend(self.remove(key));
        self.expire(now, gone);
        let cost = bytes.saturating_add(Self::OVERHEAD);
        if !self.make_room(cost, gone) {
            gone.push(value);
            return false;
        }
        let (used, born) = (self.next, self.next + 1);
        self.next += 2;
        self.used.insert(used, key);
        self.born.insert(born, key);
        self.bytes += cost;
        self.entries.insert(key, Entry { value, cost, since: now, used, born });
        true
    }

    /// The value under `key`, however old it is, which counts as no use of it.
    pub(super) fn peek(&self, key: &Key) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Sets `bytes` aside for a recording, unless there is no room for them; what has to go for that goes into `gone`.
    pub(super) fn reserve(&mut self, bytes: usize, now: Instant, gone: &mut Vec<V>) -> bool {
        self.expire(now, gone);
        let fits = self.make_room(bytes, gone);
        self.reserved += if fits { bytes } else { 0 };
        fits
    }

    /// Takes back `bytes` that were set aside.
    pub(super) fn release(&mut self, bytes: usize) {
        self.reserved = self.reserved.saturating_sub(bytes);
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// What entries and recordings take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.reserved
    }

    /// How many have gone to make room, and how many because they were too old.
    pub(super) fn gone(&self) -> (u64, u64) {
        (self.evicted, self.expired)
    }

    /// Takes out what is too old.
    fn expire(&mut self, now: Instant, gone: &mut Vec<V>) {
        while let Some(key) = self.born.first_key_value().map(|(_, key)| *key)
            && self.entries.get(&key).is_some_and(|entry| now.saturating_duration_since(entry.since) >= self.ttl)
        {
            self.expired += 1;
            gone.extend(self.remove(key));
        }
    }

    /// Takes out the least recently used until `bytes` more fit; nothing, if they never will.
    fn make_room(&mut self, bytes: usize, gone: &mut Vec<V>) -> bool {
        let room = self.limit.saturating_sub(self.reserved);
        if bytes > room {
            return false;
        }
        while self.bytes > room - bytes
            && let Some(key) = self.used.first_key_value().map(|(_, key)| *key)
        {
            self.evicted += 1;
            gone.extend(self.remove(key));
        }
        true
    }

    fn remove(&mut self, key: Key) -> Option<V> {
        let Entry { value, cost, used, born, .. } = self.entries.remove(&key)?;
        self.used.remove(&used);
        self.born.remove(&born);
        self.bytes -= cost;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::now;

    const TTL: Duration = Duration::from_secs(10);
    const OVERHEAD: usize = Store::<u32>::OVERHEAD;
    const LIMIT: usize = 10 * OVERHEAD;

    /// The same, naively: a list, the least recently used first.
    #[derive(Default)]
    struct Model {
        entries: Vec<(u8, u32, usize, Instant)>,
        reserved: usize,
        evicted: u64,
        expired: u64,
    }

    impl Model {
        fn bytes(&self) -> usize {
            self.entries.iter().map(|entry| entry.2).sum::<usize>() + self.reserved
        }

        fn get(&mut self, key: u8, now: Instant) -> Option<(u32, Duration)> {
            let at = self.entries.iter().position(|entry| entry.0 == key)?;
            let entry = self.entries.remove(at);
            let age = now - entry.3;
            if age >= TTL {
                self.expired += 1;
                return None;
            }
            self.entries.push(entry);
            Some((entry.1, age))
        }

        fn expire(&mut self, now: Instant) {
            let before = self.entries.len();
            self.entries.retain(|entry| now - entry.3 < TTL);
            self.expired += (before - self.entries.len()) as u64;
        }

        fn room(&mut self, bytes: usize) -> bool {
            if bytes + self.reserved > LIMIT {
                return false;
            }
            while self.bytes() + bytes > LIMIT {
                self.entries.remove(0);
                self.evicted += 1;
            }
            true
        }

        fn insert(&mut self, key: u8, value: u32, bytes: usize, now: Instant) -> bool {
            self.entries.retain(|entry| entry.0 != key);
            self.expire(now);
            let kept = self.room(bytes + OVERHEAD);
            if kept {
                self.entries.push((key, value, bytes + OVERHEAD, now));
            }
            kept
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Get(u8),
        Insert(u8, usize),
        Reserve(usize),
        Release,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..12u8).prop_map(Step::Get),
            4 => (0..12u8, prop_oneof![0..OVERHEAD, 0..LIMIT + OVERHEAD]).prop_map(|(key, bytes)| Step::Insert(key, bytes)),
            1 => (0..LIMIT / 2).prop_map(Step::Reserve),
            1 => Just(Step::Release),
            2 => (0..6u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 4 } else { 256 }))]

        #[test]
        fn it_is_what_a_plain_list_would_be(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut store, mut model, mut time) = (Store::new(LIMIT, TTL), Model::default(), now());
            let (mut gone, mut put, mut reserved) = (Vec::new(), 0u32, Vec::new());
            for step in steps {
                match step {
                    Step::Get(key) => {
                        let found = store.get(&Key::numbered(key), time, &mut gone).map(|(value, age)| (*value, age));
                        prop_assert_eq!(found, model.get(key, time));
                    }
                    Step::Insert(key, bytes) => {
                        put += 1;
                        let kept = store.insert(Key::numbered(key), put, bytes, time, &mut gone);
                        prop_assert_eq!(kept, model.insert(key, put, bytes, time));
                    }
                    Step::Reserve(bytes) => {
                        model.expire(time);
                        let fits = model.room(bytes);
                        prop_assert_eq!(store.reserve(bytes, time, &mut gone), fits);
                        if fits {
                            model.reserved += bytes;
                            reserved.push(bytes);
                        }
                    }
                    Step::Release => {
                        if let Some(bytes) = reserved.pop() {
                            store.release(bytes);
                            model.reserved -= bytes;
                        }
                    }
                    Step::Pass(secs) => time += Duration::from_secs(secs),
                }
                prop_assert!(store.bytes() <= LIMIT);
                prop_assert_eq!((store.bytes(), store.len()), (model.bytes(), model.entries.len()));
                prop_assert_eq!(store.gone(), (model.evicted, model.expired));
                prop_assert_eq!((store.used.len(), store.born.len()), (store.len(), store.len()));
                prop_assert_eq!(put as usize, store.len() + gone.len(), "what is not kept is handed back, once");
            }
        }
    }

    #[test]
    fn an_entry_is_good_for_its_time_and_not_a_moment_longer() {
        let (mut store, mut gone, begun) = (Store::new(LIMIT, TTL), Vec::new(), now());
        assert!(store.insert(Key::numbered(1), 7u32, 0, begun, &mut gone));
        let last = begun + TTL - Duration::from_nanos(1);
        assert_eq!(store.get(&Key::numbered(1), last, &mut gone), Some((&7, last - begun)));
        assert_eq!(store.get(&Key::numbered(1), begun + TTL, &mut gone), None);
        assert_eq!((gone, store.bytes(), store.gone()), (vec![7], 0, (0, 1)));
    }

    #[test]
    fn what_is_never_asked_for_again_goes_when_another_comes() {
        let (mut store, mut gone, begun) = (Store::new(LIMIT, TTL), Vec::new(), now());
        for n in 0..5 {
            assert!(store.insert(Key::numbered(n), u32::from(n), 0, begun, &mut gone));
        }
        assert!(store.insert(Key::numbered(9), 9, 0, begun + TTL, &mut gone));
        assert_eq!((store.len(), gone, store.gone()), (1, vec![0, 1, 2, 3, 4], (0, 5)));
    }
}
