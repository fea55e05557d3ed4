//! Which key an attempt goes with, and which keys rest: pure, with `now` handed in.
//!
//! **Turns.** Keys of one model take turns by smooth weighted round robin (Igor Sysoev's, of nginx's upstream module): each
//! turn every key that may go gains its weight, the one that has most goes, and pays the sum of those gains. Over a round
//! each goes exactly as often as its weight says, and the turns of one lie apart. A key that rests gains nothing, so that it comes
//! back without a burst.
//!
//! **Rest.** A 429 cools a key for one model, since providers limit by model: [`Verdict::Cools`]. A refusal ends the key
//! ([`Verdict::Refused`], dead) or keeps it from one model ([`Verdict::RefusedForModel`]) until one call has tried it: after a
//! while, which doubles with each call that is refused again, one caller gets the key while all others go past it. Whoever gives
//! that call up leaves its place to the next. Only that call's end counts: answers of calls that were sent before say nothing new.
//!
//! **Bounds** (I4). What rests is kept by model, for at most [`MOST_MODELS`] of them, by at most [`LONGEST_NAME`] of each name:
//! names are the clients' to choose where a key is for any model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::config::KeyModels;

/// How long a key cools that a 429 says nothing about, by the interface's section 4.
pub(in crate::provider) const COOLING: Duration = Duration::from_secs(5);

/// After how long a refused key is tried for the first time, and the most that doubling makes of it.
const FIRST_TRY: Duration = Duration::from_secs(5);
const LAST_TRY: Duration = Duration::from_secs(60);

/// For how many models it is known that keys rest.
const MOST_MODELS: usize = 128;

/// How often rests that are over are forgotten.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// By how much of a model's name that is known, in bytes. Names that begin alike for that long rest alike.
const LONGEST_NAME: usize = 256;

/// What the ring needs to know of a key.
#[derive(Clone, Debug)]
pub(super) struct Spec {
    /// Its share. One without gets nothing as long as another key of the model has a share.
    pub(super) weight: f64,
    /// The models that it is for.
    pub(super) models: KeyModels,
}

/// A key's turn: to be given back by [`Ring::settle`], whatever came of it.
#[derive(Debug)]
#[must_use = "it is to be settled"]
pub(super) struct Turn {
    pub(super) key: usize,
    tries: Option<Tries>,
}

impl Turn {
    /// A turn of a key in a ring where every key is ready, which needs no count where there is one key.
    pub(super) fn of(key: usize) -> Self {
        Self { key, tries: None }
    }

    /// Whether it tries nothing, so that it need not be settled where it says nothing.
    pub(super) fn is_plain(&self) -> bool {
        self.tries.is_none()
    }
}

/// What a turn is the one try of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tries {
    /// A key that is dead.
    Key,
    /// A key that was refused for this model.
    Model,
}

/// Why no key can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTurn {
    /// There is none for this model.
    NoKey,
    /// All that there are rest, some of them only cool: the first of these is back then.
    Cooling(Instant),
    /// All that there are were refused by the provider.
    Refused,
}

/// What an attempt says of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::provider) enum Verdict {
    /// The provider took it.
    Taken,
    /// It was used too much for this model, and comes back after that long, if the provider said.
    Cools(Option<Duration>),
    /// The provider refuses it.
    Refused,
    /// The provider refuses it for this model.
    RefusedForModel,
    /// Nothing.
    Nothing,
}

/// What has changed of a key as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Died,
    Revived,
}

/// How a key stands, as `/stats` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) state: &'static str,
    /// The models that it rests for, and for how long still.
    pub(super) resting: BTreeMap<String, Duration>,
}

/// One of those who take turns for a model.
#[derive(Debug)]
struct Member {
    key: usize,
    share: f64,
    gained: f64,
}

/// A refusal, until a call has tried the key again.
#[derive(Debug)]
struct Refusal {
    /// When the call may be made.
    due: Instant,
    /// Whether it is under way.
    tried: bool,
    /// How long was waited for it.
    waited: Duration,
}

impl Refusal {
    fn first(now: Instant) -> Self {
        Self { due: now + FIRST_TRY, tried: false, waited: FIRST_TRY }
    }

    /// The call was refused, too.
    fn again(&mut self, now: Instant) {
        let waited = (self.waited * 2).min(LAST_TRY);
        *self = Self { due: now + waited, tried: false, waited };
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.tried && self.due <= now
    }
}

/// Why a key rests for a model.
#[derive(Debug)]
enum Rest {
    Cools(Instant),
    Refused(Refusal),
}

impl Rest {
    /// Until when it lasts at least.
    fn until(&self) -> Instant {
        match self {
            Self::Cools(until) => *until,
            Self::Refused(refusal) => refusal.due,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        matches!(self, Self::Cools(until) if *until <= now)
    }
}

/// How a key stands for a model.
enum Standing {
    Ready,
    /// A call is to try it.
    Due(Tries),
    Cools(Instant),
    Refused,
}

/// The keys of one provider.
#[derive(Debug)]
pub(super) struct Ring {
    /// Those who take turns, each group for its own models.
    groups: Vec<Vec<Member>>,
    /// The groups of the models that some key names.
    named: BTreeMap<String, usize>,
    /// The group where no model is named: that of any other model, or everybody where no key is for any.
    unnamed: usize,
    /// The refusal of each key that is dead.
    dead: Vec<Option<Refusal>>,
    /// By model, why each key rests for it.
    resting: BTreeMap<String, Rests>,
    /// When rests that are over are forgotten next.
    tidy: Option<Instant>,
}

/// Why each key rests for a model.
#[derive(Debug)]
struct Rests {
    of: Vec<Option<Rest>>,
    /// Until when the last of them lasts at least, so that looking through them can wait until then.
    until: Instant,
}

impl Rests {
    fn are_over(&self, now: Instant) -> bool {
        self.until <= now && self.of.iter().flatten().all(|rest| rest.is_over(now))
    }
}

/// The group of the models that no key names.
const OTHERS: usize = 0;

/// Those of `keys` that take turns: without those that have no share, unless none has one.
fn members<'a>(keys: impl Iterator<Item = (usize, &'a Spec)>) -> Vec<Member> {
    let mut members: Vec<_> = keys.map(|(key, spec)| Member { key, share: spec.weight, gained: 0.0 }).collect();
    if members.iter().any(|member| member.share > 0.0) {
        members.retain(|member| member.share > 0.0);
    } else {
        members.iter_mut().for_each(|member| member.share = 1.0);
    }
    members
}

impl Ring {
    /// A ring of these keys, all of them ready.
    pub(super) fn new(specs: &[Spec]) -> Self {
        let all = || specs.iter().enumerate();
        let mut holders = BTreeMap::<&String, Vec<usize>>::new();
        for (key, spec) in all() {
            spec.models.named().iter().for_each(|model| holders.entry(model).or_default().push(key));
        }
        let any = |spec: &Spec| spec.models == KeyModels::Any;
        let takes = |keys: &[usize]| members(all().filter(|(key, spec)| any(spec) || keys.contains(key)));
        let mut groups = vec![members(all().filter(|(_, spec)| any(spec)))];
        let unnamed = if groups[OTHERS].is_empty() { 1 } else { OTHERS };
        groups.extend((unnamed != OTHERS).then(|| members(all())));
        let mut named = BTreeMap::new();
        for (model, keys) in holders {
            named.insert(model.clone(), groups.len());
            groups.push(takes(&keys));
        }
        let dead = specs.iter().map(|_| None).collect();
        Self { groups, named, unnamed, dead, resting: BTreeMap::new(), tidy: None }
    }

    /// Whether every key is ready for every model.
    pub(super) fn is_calm(&self) -> bool {
        self.resting.is_empty() && self.dead.iter().all(Option::is_none)
    }

    /// The key whose turn it is for `model`; a request that names none has an empty one.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn next(&mut self, model: &str, now: Instant) -> Result<Turn, NoTurn> {
        self.next_of(model, now, &[])
    }

    /// The same among those that are held back for the shortest time: `held_back` has that of each key, or nothing at all.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn next_of(&mut self, model: &str, now: Instant, held_back: &[Duration]) -> Result<Turn, NoTurn> {
        if self.tidy.is_some_and(|due| due <= now) {
            self.tidy(now);
        }
        let group = self.group(model);
        let members = &mut self.groups[group];
        let resting = self.resting.get_mut(remembered(model));
        let standing = |key: usize| standing(self.dead[key].as_ref(), rest_of(resting.as_deref(), key), now);
        let due = members.iter().find_map(|member| match standing(member.key) {
            Standing::Due(tries) => Some((member.key, tries)),
            _ => None,
        });
        if let Some((key, tries)) = due {
            let refusal = match tries {
                Tries::Key => self.dead[key].as_mut(),
                Tries::Model => refusal_of(resting, key),
            };
            if let Some(refusal) = refusal {
                refusal.tried = true;
            }
            return Ok(Turn { key, tries: Some(tries) });
        }
        let is_ready = |member: &Member| matches!(standing(member.key), Standing::Ready);
        let wait = |member: &Member| held_back.get(member.key).copied().unwrap_or_default();
        let least = members.iter().filter(|member| is_ready(member)).map(wait).min().unwrap_or_default();
        let (mut sum, mut most) = (0.0, None::<&mut Member>);
        for member in members.iter_mut().filter(|member| is_ready(member) && wait(member) == least) {
            member.gained += member.share;
            sum += member.share;
            if most.as_ref().is_none_or(|most| member.gained > most.gained) {
                most = Some(member);
            }
        }
        match most {
            Some(member) => {
                member.gained -= sum;
                Ok(Turn::of(member.key))
            }
            None => self.outlook(model, now).and(Err(NoTurn::Refused)),
        }
    }

    /// How many keys can go for `model`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn outlook(&self, model: &str, now: Instant) -> Result<usize, NoTurn> {
        let members = &self.groups[self.group(model)];
        let resting = self.resting.get(remembered(model));
        let (mut ready, mut first) = (0, None::<Instant>);
        for member in members {
            match standing(self.dead[member.key].as_ref(), rest_of(resting, member.key), now) {
                Standing::Ready | Standing::Due(_) => ready += 1,
                Standing::Cools(until) => first = Some(first.map_or(until, |first| first.min(until))),
                Standing::Refused => {}
            }
        }
        match first {
            _ if members.is_empty() => Err(NoTurn::NoKey),
            _ if ready > 0 => Ok(ready),
            Some(first) => Err(NoTurn::Cooling(first)),
            None => Err(NoTurn::Refused),
        }
    }

    /// A turn for `model` is over, and this is what it says of its key.
    pub(super) fn settle(&mut self, turn: Turn, model: &str, verdict: Verdict, now: Instant) -> Option<Change> {
        let Turn { key, tries } = turn;
        let took = !matches!(verdict, Verdict::Nothing | Verdict::Refused);
        let revived = match tries {
            Some(Tries::Key) if took => self.dead[key].take().map(|_| Change::Revived),
            Some(Tries::Model) if took && verdict != Verdict::RefusedForModel => {
                self.forget(key, model);
                None
            }
            _ => None,
        };
        let died = match verdict {
            Verdict::Taken | Verdict::Nothing => None,
            Verdict::Cools(after) => {
                self.cool(key, model, after, now);
                None
            }
            Verdict::Refused => match &mut self.dead[key] {
                Some(refusal) if tries == Some(Tries::Key) => {
                    refusal.again(now);
                    None
                }
                // It is told by a call that was sent before.
                Some(_) => None,
                dead @ None => {
                    *dead = Some(Refusal::first(now));
                    Some(Change::Died)
                }
            },
            Verdict::RefusedForModel => {
                self.refuse(key, model, tries == Some(Tries::Model), now);
                None
            }
        };
        // What is not answered by now is the next one's to try.
        match tries {
            Some(Tries::Key) => self.dead[key].iter_mut().for_each(|refusal| refusal.tried = false),
            Some(Tries::Model) => {
                refusal_of(self.resting.get_mut(remembered(model)), key)
                    .into_iter()
                    .for_each(|refusal| refusal.tried = false);
            }
            None => {}
        }
        died.or(revived)
    }

    /// The key of `turn`, or another one if that has come to rest since its turn began.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn renew(&mut self, turn: Turn, model: &str, now: Instant) -> Result<Turn, NoTurn> {
        let rest = rest_of(self.resting.get(remembered(model)), turn.key);
        match standing(self.dead[turn.key].as_ref(), rest, now) {
            Standing::Cools(_) | Standing::Due(_) | Standing::Refused if turn.is_plain() => self.next(model, now),
            _ => Ok(turn),
        }
    }

    /// Whether the provider refuses a key.
    pub(super) fn is_dead(&self, key: usize) -> bool {
        self.dead[key].is_some()
    }

    /// How a key stands.
    pub(super) fn view(&self, key: usize, now: Instant) -> View {
        let rests = self.resting.iter().filter_map(|(model, resting)| {
            let rest = resting.of[key].as_ref().filter(|rest| !rest.is_over(now))?;
            Some((model.clone(), rest.until().saturating_duration_since(now)))
        });
        let resting: BTreeMap<_, _> = rests.collect();
        let state = match &self.dead[key] {
            Some(_) => "dead",
            None if resting.is_empty() => "ready",
            None => "cooling",
        };
        View { state, resting }
    }

    /// The group of those who take turns for `model`.
    fn group(&self, model: &str) -> usize {
        match self.named.get(model) {
            Some(group) => *group,
            None if model.is_empty() => self.unnamed,
            None => OTHERS,
        }
    }

    /// Cools a key for a model. The provider's word makes it longer, never shorter; without a word, an answer to what was
    /// sent before the key began to cool says nothing.
    fn cool(&mut self, key: usize, model: &str, after: Option<Duration>, now: Instant) {
        let until = now + after.unwrap_or(COOLING);
        if until <= now {
            return;
        }
        self.rest(key, model, now, |rest| match rest {
            Some(Rest::Cools(old)) if *old <= now || (after.is_some() && *old < until) => *old = until,
            Some(_) => {}
            None => *rest = Some(Rest::Cools(until)),
        });
    }

    /// Keeps a key from a model. `tried` says that this is what the one call came to that was to try it.
    fn refuse(&mut self, key: usize, model: &str, tried: bool, now: Instant) {
        self.rest(key, model, now, |rest| match rest {
            Some(Rest::Refused(refusal)) if tried => refusal.again(now),
            Some(Rest::Refused(_)) => {}
            Some(Rest::Cools(_)) | None => *rest = Some(Rest::Refused(Refusal::first(now))),
        });
    }

    fn forget(&mut self, key: usize, model: &str) {
        let model = remembered(model);
        if let Some(resting) = self.resting.get_mut(model) {
            resting.of[key] = None;
            if resting.of.iter().all(Option::is_none) {
                self.resting.remove(model);
            }
        }
    }

    /// Changes why a key rests for `model`. Where that are too many models, the one gives way whose rests are over first.
    fn rest(&mut self, key: usize, model: &str, now: Instant, change: impl FnOnce(&mut Option<Rest>)) {
        let model = remembered(model);
        if !self.resting.contains_key(model) {
            self.tidy(now);
            if self.resting.len() >= MOST_MODELS {
                let first = self.resting.iter().min_by_key(|(_, rests)| rests.until).map(|(model, _)| model.clone());
                first.and_then(|first| self.resting.remove(&first));
            }
            let of = self.dead.iter().map(|_| None).collect();
            self.resting.insert(model.to_owned(), Rests { of, until: now });
        }
        let Some(rests) = self.resting.get_mut(model) else { return };
        change(&mut rests.of[key]);
        rests.until = rests.of[key].iter().map(Rest::until).fold(rests.until, Instant::max);
    }

    /// Forgets the models that no key rests for any more. What is over counts for nothing before that, so that now and then
    /// is often enough.
    fn tidy(&mut self, now: Instant) {
        self.resting.retain(|_, rests| !rests.are_over(now));
        self.tidy = Some(now + TIDY_EVERY);
    }
}

/// What is remembered of a model's name.
fn remembered(model: &str) -> &str {
    let end = (0..=LONGEST_NAME.min(model.len())).rev().find(|end| model.is_char_boundary(*end));
    &model[..end.unwrap_or_default()]
}

fn standing(dead: Option<&Refusal>, rest: Option<&Rest>, now: Instant) -> Standing {
    match (dead, rest) {
        (Some(refusal), _) if refusal.is_due(now) => Standing::Due(Tries::Key),
        (Some(_), _) => Standing::Refused,
        (None, Some(Rest::Refused(refusal))) if refusal.is_due(now) => Standing::Due(Tries::Model),
        (None, Some(Rest::Refused(_))) => Standing::Refused,
        (None, Some(Rest::Cools(until))) if *until > now => Standing::Cools(*until),
        (None, _) => Standing::Ready,
    }
}

fn rest_of(rests: Option<&Rests>, key: usize) -> Option<&Rest> {
    rests?.of.get(key)?.as_ref()
}

fn refusal_of(rests: Option<&mut Rests>, key: usize) -> Option<&mut Refusal> {
    match rests?.of.get_mut(key)? {
        Some(Rest::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
