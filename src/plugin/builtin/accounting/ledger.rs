//! Who has spent what, and whose budget lets a request in: pure, with the time handed in.
//!
//! **Protocol.** [`Ledger::take`] reserves what a request will cost by estimate in every budget that it is booked on, or refuses
//! it; [`Ledger::settle`] gives the reservation back and books what it came to. A budget lets in as long as what was spent and
//! what is reserved are below its limit together. So it is passed by no more than the last request that it let in, and by
//! what those under way come to beyond their estimates.
//!
//! **Sums** are whole picodollars: what models have cost adds up exactly to what their account has cost.
//!
//! **Rules**, which are prices and budgets, are handed in: a reload may have two of them at the same books for a while.
//!
//! **Bounds** (I4). Keys are as many as the configuration has had; at most [`MOST_TAGS`] values of the tag are told apart, with
//! those beyond that the configuration has a budget for, and
//! at most [`MOST_MODELS`] models of an account: the rest share one line. Names whose price was learned, and models of
//! which it was told that they have none, are at most [`MOST_NAMES`] each.

use std::collections::{BTreeMap, BTreeSet};

use super::super::used::{Came, Guess, Sent, Used};
use super::super::who::Who;
use super::calendar::{self, Span};
use super::prices::{MICRO, Pico, Prices, cost};
use crate::config::plugins::{Accounting as Settings, Budget, Period, Price};
use crate::metrics::tokens::{Usual, of_text};
use crate::model::Usage;

/// The most values of the tag that have an account each.
pub(super) const MOST_TAGS: usize = 256;

/// The most models that an account tells apart.
pub(super) const MOST_MODELS: usize = 32;

/// The most names of which something was learned.
const MOST_NAMES: usize = 256;

/// The line of all models beyond.
const OTHERS: &str = "(others)";

/// What models cost, and what may be spent.
#[derive(Debug)]
pub(super) struct Rules {
    prices: Prices,
    budgets: Vec<(String, Budget)>,
    tag_budgets: Vec<(String, Budget)>,
    warn_at: f64,
}

/// Who has spent what.
#[derive(Debug)]
pub(super) struct Ledger {
    accounts: BTreeMap<Who, Account>,
    tags: usize,
    /// What was spent before the program's last end by those of whom nothing was heard since, and by those who have no
    /// budget now.
    carried: BTreeMap<Who, Carried>,
    /// What was paid last under a name that has no price of its own, as an alias.
    learned: BTreeMap<String, Price>,
    unpriced: BTreeSet<String>,
    answers: Usual,
    /// How many bytes of events streams usually have for a token.
    event_bytes: Usual,
    /// Grows with each change of what was spent.
    version: u64,
}

/// What one has spent.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) sums: Sums,
    pub(super) models: BTreeMap<String, Sums>,
    pub(super) budget: Option<Purse>,
}

/// What requests have come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Those that a provider had.
    pub(super) requests: u64,
    /// Of these, those whose model has no price.
    pub(super) unpriced: u64,
    pub(super) tokens: Usage,
    pub(super) cost: Pico,
}

/// A budget, and what was taken of it in this period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purse {
    pub(super) budget: Budget,
    pub(super) span: Span,
    pub(super) spent: Pico,
    pub(super) reserved: Pico,
}

/// What was spent of a budget, as it outlives the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) period: Period,
    /// The number of this one.
    pub(super) number: u64,
    pub(super) spent: Pico,
}

/// What a request has reserved.
#[derive(Debug)]
pub(super) struct Reserved {
    whos: Vec<Who>,
    /// The model as the caller wrote it.
    asked: String,
    tokens: Usage,
    cost: Pico,
}

/// Why a request is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) who: Who,
    pub(super) budget: Budget,
    /// When it renews, in milliseconds since 1970; never if that is none.
    pub(super) renews_ms: Option<u64>,
    /// Whether it is what is under way that may spend the rest of it.
    pub(super) under_way: bool,
}

/// How a budget stands for an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) who: Who,
    pub(super) budget: Budget,
    /// What was spent, if that is worth a warning.
    pub(super) spent: Option<Pico>,
}

/// What is to be told after a request was booked.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) standings: Vec<Standing>,
    /// A model without a price that was met for the first time.
    pub(super) unpriced: Option<String>,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            prices: Prices::new(&settings.prices),
            budgets: settings.budgets.clone(),
            tag_budgets: settings.tag_budgets.clone(),
            warn_at: settings.warn_at,
        }
    }

    fn budget(&self, who: &Who) -> Option<Budget> {
        let (budgets, name) = match who {
            Who::Key(name) => (&self.budgets, name.as_str()),
            Who::Unkeyed => (&self.budgets, "*"),
            Who::Tag(value) => (&self.tag_budgets, value.as_str()),
            Who::Others => (&self.tag_budgets, "*"),
        };
        let of = |name: &str| budgets.iter().find(|(own, _)| own == name).map(|(_, budget)| *budget);
        of(name).or_else(|| of("*"))
    }

    /// Whether a value of the tag has a budget of its own, which no stranger's may take from it.
    fn names_tag(&self, value: &str) -> bool {
        self.tag_budgets.iter().any(|(own, _)| own == value)
    }
}

impl Ledger {
    /// Nothing spent but what is `carried` over.
    pub(super) fn new(carried: BTreeMap<Who, Carried>) -> Self {
        Self {
            accounts: BTreeMap::new(),
            tags: 0,
            carried,
            learned: BTreeMap::new(),
            unpriced: BTreeSet::new(),
            answers: Usual::new(),
            event_bytes: Usual::new(),
            version: 0,
        }
    }

    /// Reserves what a request of these will cost that asks for the model `asked`.
    pub(super) fn take(
        &mut self,
        rules: &Rules,
        whos: Vec<Who>,
        asked: &str,
        guess: Guess,
        now_ms: u64,
    ) -> Result<Reserved, Refusal> {
        let whos: Vec<_> = whos.into_iter().map(|who| self.open(rules, who, now_ms)).collect();
        for who in &whos {
            let Some(purse) = self.purse(who) else { continue };
            let (limit, spent) = (purse.limit(), purse.spent);
            if spent.saturating_add(purse.reserved) >= limit {
                let (budget, renews_ms) = (purse.budget, purse.span.ends_ms);
                return Err(Refusal { who: who.clone(), budget, renews_ms, under_way: spent < limit });
            }
        }
        let tokens = guess.tokens(&self.answers);
        let cost = cost(self.expected(rules, asked), tokens);
        for who in &whos {
            if let Some(purse) = self.purse(who) {
                purse.reserved = purse.reserved.saturating_add(cost);
            }
        }
        Ok(Reserved { whos, asked: asked.to_owned(), tokens, cost })
    }

    /// A request has ended: gives back what it reserved, and books what it came to.
    pub(super) fn settle(&mut self, rules: &Rules, reserved: Reserved, used: Used<'_>, now_ms: u64) -> Told {
        let Reserved { whos, asked, tokens, cost: held } = reserved;
        for who in &whos {
            if let Some(purse) = self.purse(who) {
                purse.reserved = purse.reserved.saturating_sub(held);
            }
        }
        let (model, booked) = match used {
            Used::Unsent => return Told::default(),
            Used::Refused(provider, model) => (format!("{provider}/{model}"), Usage::default()),
            Used::Sent(sent) => (format!("{}/{}", sent.provider, sent.model), self.came_to(sent, tokens)),
        };
        let price = rules.prices.of(&model);
        let is_priced = price.is_some() || booked == Usage::default();
        let mut told = Told::default();
        if !is_priced && self.unpriced.len() < MOST_NAMES && self.unpriced.insert(model.clone()) {
            told.unpriced = Some(model.clone());
        }
        let price = price.unwrap_or_default();
        let cost = cost(price, booked);
        let sums = Sums { requests: 1, unpriced: u64::from(!is_priced), tokens: booked, cost };
        if booked != Usage::default() {
            self.learn(rules, asked, price);
        }
        self.version += u64::from(sums.cost > 0);
        for who in whos {
            let Some(account) = self.accounts.get_mut(&who) else { continue };
            account.sums.add(sums);
            account.model(&model).add(sums);
            if let Some(purse) = &mut account.budget {
                purse.roll(now_ms);
                purse.spent = purse.spent.saturating_add(sums.cost);
                told.standings.push(purse.standing(who, rules.warn_at));
            }
        }
        told
    }

    /// The tokens of a request that a provider worked on, and of which `estimate` was expected: as the provider counted them;
    /// else those of the request by estimate, and those of the answer by the bytes that came of it, or all by estimate where
    /// nothing came. So nobody gets anything for nothing by leaving early.
    fn came_to(&mut self, sent: Sent<'_>, estimate: Usage) -> Usage {
        if let Some(counted) = sent.counted {
            self.answers.note(counted.output);
            if let (Came::Streamed(bytes), true) = (sent.came, counted.output > 0) {
                self.event_bytes.note(bytes / counted.output);
            }
            return counted;
        }
        // Embeddings have no answer that costs anything, and of what is forwarded nobody counts.
        let output = match sent.came {
            _ if estimate.output == 0 => 0,
            Came::Whole(bytes) => of_text(bytes),
            Came::Streamed(bytes) => bytes.div_ceil(self.event_bytes.tokens(1).max(1)),
            Came::Nothing => estimate.output,
        };
        Usage { output, ..estimate }
    }

    /// The price that is expected under a name: its own, else what was paid last under it. A name that says no provider stands
    /// for some other; the first time it is expected to be the dearest.
    fn expected(&self, rules: &Rules, asked: &str) -> Price {
        let known = rules.prices.of(asked).or_else(|| self.learned.get(asked).copied());
        known.unwrap_or_else(|| if asked.contains('/') { Price::default() } else { rules.prices.dearest() })
    }

    fn learn(&mut self, rules: &Rules, asked: String, price: Price) {
        if rules.prices.of(&asked).is_none() && (self.learned.len() < MOST_NAMES || self.learned.contains_key(&asked)) {
            self.learned.insert(asked, price);
        }
    }

    /// The account of one, made if need be, with the budget that the rules give it.
    fn open(&mut self, rules: &Rules, who: Who, now_ms: u64) -> Who {
        let has_place = match &who {
            Who::Tag(value) => self.tags < MOST_TAGS || self.accounts.contains_key(&who) || rules.names_tag(value),
            _ => true,
        };
        let who = if has_place { who } else { Who::Others };
        if !self.accounts.contains_key(&who) {
            self.tags += usize::from(matches!(who, Who::Tag(_)));
            self.accounts.insert(who.clone(), Account::default());
        }
        if let Some(account) = self.accounts.get_mut(&who) {
            match (&mut account.budget, rules.budget(&who)) {
                (Some(purse), Some(budget)) if purse.budget == budget => purse.roll(now_ms),
                (before, Some(budget)) => {
                    let reserved = before.as_ref().map_or(0, |purse| purse.reserved);
                    let carried = self.carried.remove(&who);
                    let before = before.as_ref().map(Purse::carried).or(carried);
                    account.budget = Some(Purse { reserved, ..Purse::new(budget, before, now_ms) });
                }
                (before, None) => {
                    // Its budget may come again within the period.
                    if let Some(purse) = before.take() {
                        self.carried.insert(who.clone(), purse.carried());
                    }
                }
            }
        }
        who
    }

    fn purse(&mut self, who: &Who) -> Option<&mut Purse> {
        self.accounts.get_mut(who)?.budget.as_mut()
    }

    /// Each budget as it stands, for alerts.
    pub(super) fn standings(&mut self, rules: &Rules, now_ms: u64) -> Vec<Standing> {
        let purses = self.accounts.iter_mut().filter_map(|(who, account)| Some((who, account.budget.as_mut()?)));
        let standing = |(who, purse): (&Who, &mut Purse)| {
            purse.roll(now_ms);
            purse.standing(who.clone(), rules.warn_at)
        };
        purses.map(standing).collect()
    }

    /// Every account as it is.
    pub(super) fn accounts(&self) -> BTreeMap<Who, Account> {
        self.accounts.clone()
    }

    /// What is to outlive the program, and which version of it this is.
    pub(super) fn carry(&self) -> (BTreeMap<Who, Carried>, u64) {
        let mut all = self.carried.clone();
        let purses = self.accounts.iter().filter_map(|(who, account)| Some((who, account.budget.as_ref()?)));
        all.extend(purses.map(|(who, purse)| (who.clone(), purse.carried())));
        (all, self.version)
    }

    /// Grows with each change of what [`carry`](Self::carry) gives.
    pub(super) fn version(&self) -> u64 {
        self.version
    }
}

impl Account {
    fn model(&mut self, name: &str) -> &mut Sums {
        let has_place = self.models.len() < MOST_MODELS || self.models.contains_key(name);
        self.models.entry(if has_place { name } else { OTHERS }.to_owned()).or_default()
    }
}

impl Sums {
    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.unpriced += other.unpriced;
        self.tokens.input = self.tokens.input.saturating_add(other.tokens.input);
        self.tokens.output = self.tokens.output.saturating_add(other.tokens.output);
        self.cost = self.cost.saturating_add(other.cost);
    }
}

impl Purse {
    fn new(budget: Budget, carried: Option<Carried>, now_ms: u64) -> Self {
        let span = calendar::span(budget.period, now_ms);
        let same = carried.filter(|carried| carried.period == budget.period && carried.number == span.number);
        Self { budget, span, spent: same.map_or(0, |carried| carried.spent), reserved: 0 }
    }

    fn carried(&self) -> Carried {
        Carried { period: self.budget.period, number: self.span.number, spent: self.spent }
    }

    pub(super) fn limit(&self) -> Pico {
        Pico::from(self.budget.limit) * MICRO
    }

    /// Begins the next period if it is time. A clock that was put back begins none again.
    fn roll(&mut self, now_ms: u64) {
        let span = calendar::span(self.budget.period, now_ms);
        if span.number > self.span.number {
            (self.span, self.spent) = (span, 0);
        }
    }

    fn standing(&self, who: Who, warn_at: f64) -> Standing {
        let is_near = warn_at > 0.0 && self.spent as f64 >= self.limit() as f64 * warn_at;
        Standing { who, budget: self.budget, spent: is_near.then_some(self.spent) }
    }
}

#[cfg(test)]
mod tests;
