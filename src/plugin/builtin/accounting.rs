//! Tokens and costs by a price table, for each gateway key and by a tag, with budgets.
//!
//! **Protocol.** `pre` reserves what a request will cost by estimate, or refuses it whose budget is spent; `post` books what it
//! came to. Read `accounting::ledger` for the sums, `prices` for what models cost, `calendar` for periods, `books` for what
//! outlives the program.
//!
//! **What a request costs.** What its provider counted, at the price of the model that answered. Without a count: the request's
//! own tokens by estimate, and those of the answer by the bytes that came; a stream that was cut costs what came of it.
//! A request that was sent and left, or whose provider failed in the middle of a whole answer, costs what was
//! estimated: whether it is billed nobody knows, and a budget is not to be passed by leaving early. What reached no provider, was
//! refused by one, or was answered by a plugin costs nothing. Attempts that failed before the last one cost nothing here.
//!
//! **Order.** Last of the plugins, so that its `post` comes first and sees the provider's own answer; behind a cache, so that it
//! reserves nothing for what that answers.
//!
//! **Invariants.** I2: a reservation is a guard in the request's context. I6: the lock is a leaf; alerts, events and files come
//! outside it.

mod books;
mod calendar;
mod ledger;
mod prices;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::used::{Guess, Used};
use super::who::Who;
use crate::config::plugins::{Accounting as Settings, Budget, Period};
use crate::error::{Code, Error};
use crate::events::Events;
use crate::plugin::{Context, Flow, Outcome, Plugin, PluginError, Request};
use crate::time::{format_duration, unix_ms};
use books::Books;
use ledger::{Account, Refusal, Reserved, Rules, Standing, Sums, Told};
use prices::{MICRO, Pico};

/// The alert of a budget that is nearly or wholly spent.
const ALERT: &str = "budget";

/// The alert of a file that cannot be written.
const UNWRITTEN: &str = "state_file";

/// The event that tells of a model without a price.
const UNPRICED: &str = "unpriced";

/// Tokens and costs by a price table, with budgets.
#[derive(Debug)]
pub(crate) struct Accounting(Arc<Shared>);

/// What outlives a request's way through the plugin.
#[derive(Debug)]
struct Shared {
    rules: Rules,
    by_tag: Option<String>,
    books: Arc<Books>,
    events: Events,
}

impl Accounting {
    /// # Errors
    /// If its file is none of its own, or cannot be read or written.
    pub(crate) fn new(settings: &Settings, events: &Events) -> Result<Self, PluginError> {
        let books = match &settings.state_file {
            Some(path) => Books::kept(path)?,
            None => Arc::default(),
        };
        let (rules, by_tag) = (Rules::new(settings), settings.by_tag.clone());
        Ok(Self(Arc::new(Shared { rules, by_tag, books, events: events.clone() })))
    }
}

impl Plugin for Accounting {
    fn name(&self) -> &str {
        "accounting"
    }

    fn pre(&self, request: &mut Request<'_>, context: &mut Context<'_>) -> Result<Flow, PluginError> {
        let Shared { rules, by_tag, books, .. } = &*self.0;
        let mut whos = vec![Who::client(context)];
        whos.extend(Who::tagged(context, by_tag.as_deref()));
        let guess = Guess::of(request);
        let now_ms = unix_ms();
        let taken = books.ledger().take(rules, whos, request.model(), guess, now_ms);
        Ok(match taken {
            Ok(reserved) => {
                context.set(Reservation { shared: Arc::clone(&self.0), reserved: Some(reserved) });
                Flow::Continue
            }
            Err(refusal) => Flow::Refuse(refused(&refusal, now_ms)),
        })
    }

    fn post(&self, outcome: &mut Outcome, context: &mut Context<'_>) -> Result<(), PluginError> {
        if let Some(mut reservation) = context.take::<Reservation>() {
            reservation.settle(Used::of(outcome));
            self.0.saved(self.0.books.save_in_time());
        }
        Ok(())
    }

    fn stats(&self) -> Option<Value> {
        let (standings, accounts) = {
            let mut ledger = self.0.books.ledger();
            (ledger.standings(&self.0.rules, unix_ms()), ledger.accounts())
        };
        standings.iter().for_each(|standing| self.0.tell(standing));
        let (mut all, mut keys, mut tags, mut unkeyed) = (Sums::default(), Map::new(), Map::new(), Value::Null);
        for (who, account) in accounts {
            // Tags tell apart again what is booked by keys.
            if matches!(who, Who::Key(_) | Who::Unkeyed) {
                all.add(account.sums);
            }
            let account = account_shown(&account);
            match who {
                Who::Key(name) => _ = keys.insert(name, account),
                Who::Unkeyed => unkeyed = account,
                Who::Tag(value) => _ = tags.insert(value, account),
                Who::Others => _ = tags.insert("(others)".to_owned(), account),
            }
        }
        let mut shown = sums_shown(all);
        shown.extend([
            ("keys".to_owned(), keys.into()),
            ("unkeyed".to_owned(), unkeyed),
            ("tags".to_owned(), tags.into()),
        ]);
        Some(shown.into())
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        self.0.saved(self.0.books.save());
        let standings = self.0.books.ledger().standings(&self.0.rules, unix_ms());
        standings.iter().for_each(|standing| self.0.events.clear(ALERT, &standing.who.to_string()));
    }
}

impl Shared {
    /// Raises or ends the alert of a budget.
    fn tell(&self, Standing { who, budget, spent }: &Standing) {
        let text = spent.map(|spent| format!("{} of {} are spent", shown(spent), of(budget)));
        self.events.set(ALERT, &who.to_string(), text);
    }

    /// Says whether what was spent could be written down, if that was tried.
    fn saved(&self, result: io::Result<bool>) {
        match result {
            Ok(false) => {}
            Ok(true) => self.events.clear(UNWRITTEN, "accounting"),
            Err(error) => {
                let text = format!("what was spent cannot be written into its state_file: {error}");
                self.events.raise(UNWRITTEN, "accounting", text);
            }
        }
    }
}

/// What a request has reserved; dropped, it gives it back.
#[derive(Debug)]
struct Reservation {
    shared: Arc<Shared>,
    reserved: Option<Reserved>,
}

impl Reservation {
    fn settle(&mut self, used: Used<'_>) {
        let Some(reserved) = self.reserved.take() else { return };
        let shared = &self.shared;
        let Told { standings, unpriced } = shared.books.ledger().settle(&shared.rules, reserved, used, unix_ms());
        // What is far from its limit is told of when the stats are taken: an alert ends with its period.
        standings.iter().filter(|standing| standing.spent.is_some()).for_each(|standing| shared.tell(standing));
        if let Some(model) = unpriced {
            let text = "it has no price, and costs nothing here: give it one in \"prices\"";
            shared.events.push(UNPRICED, &model, text);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(Used::Unsent);
    }
}

/// The error of a request whose budget is spent.
fn refused(refusal: &Refusal, now_ms: u64) -> Error {
    let Refusal { who, budget, renews_ms, under_way } = refusal;
    let budget = of(budget);
    if *under_way {
        let text = format!("what is under way may spend the rest of the budget of {who}, {budget}");
        return Error::new(Code::RateLimited, text);
    }
    let text = format!("the budget of {who}, {budget}, is spent");
    match renews_ms {
        None => Error::new(Code::RateLimited, format!("{text}; it does not renew")).with_retry_after(Duration::MAX),
        Some(renews_ms) => {
            let text = format!("{text}; it renews at {}", calendar::shown(*renews_ms));
            let after = Duration::from_millis(renews_ms.saturating_sub(now_ms));
            Error::new(Code::RateLimited, text).with_retry_after(after)
        }
    }
}

/// A budget in words.
fn of(budget: &Budget) -> String {
    let limit = shown(Pico::from(budget.limit) * MICRO);
    match budget.period {
        Period::Day => format!("{limit} a day"),
        Period::Month => format!("{limit} a month"),
        Period::Total => format!("{limit} in all"),
        Period::Every(time) => format!("{limit} in {}", format_duration(time)),
    }
}

fn shown(amount: Pico) -> String {
    format!("${}", dollars(amount))
}

/// An amount in dollars, as near as a number of JSON comes.
fn dollars(amount: Pico) -> f64 {
    amount as f64 / 1e12
}

/// One account in `/stats`.
fn account_shown(account: &Account) -> Value {
    let mut shown = sums_shown(account.sums);
    let models: Map<_, _> =
        account.models.iter().map(|(name, sums)| (name.clone(), sums_shown(*sums).into())).collect();
    shown.insert("models".to_owned(), models.into());
    if let Some(purse) = &account.budget {
        let view = json!({
            "limit_usd": dollars(purse.limit()),
            "spent_usd": dollars(purse.spent),
            "reserved_usd": dollars(purse.reserved),
            "left_usd": dollars(purse.limit().saturating_sub(purse.spent)),
            "renews_at": purse.span.ends_ms.map(calendar::shown),
        });
        shown.insert("budget".to_owned(), view);
    }
    shown.into()
}

fn sums_shown(sums: Sums) -> Map<String, Value> {
    let Sums { requests, unpriced, tokens, cost } = sums;
    let rows: [(&str, Value); 5] = [
        ("requests_total", requests.into()),
        ("unpriced_total", unpriced.into()),
        ("tokens_in_total", tokens.input.into()),
        ("tokens_out_total", tokens.output.into()),
        ("cost_usd", dollars(cost).into()),
    ];
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
