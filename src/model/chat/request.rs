//! What is asked of a model.

use std::borrow::Cow;

use super::{Block, Names};

/// A chat as it is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Request<'a> {
    /// What the caller's shape calls its fields.
    pub(crate) names: &'static Names,
    /// What the model is told before the conversation: text, and marks for the cache.
    pub(crate) system: Vec<Block<'a>>,
    /// How many of the caller's messages stand in `system`, so that the others are called by the numbers that they have there.
    pub(crate) before: usize,
    /// The conversation. Neighbours may have the same role, and any may come first: a writer whose shape does not
    /// take that puts them together.
    pub(crate) messages: Vec<Message<'a>>,
    /// The functions that may be called.
    pub(crate) tools: Vec<Tool<'a>>,
    /// Which of them is to be called.
    pub(crate) tool_choice: Option<Choice<'a>>,
    /// Whether several may be called at once; unsaid, the provider's own way, which is yes.
    pub(crate) parallel_tools: Option<bool>,
    /// The most tokens of the answer.
    pub(crate) max_tokens: Option<u64>,
    /// How freely is chosen.
    pub(crate) temperature: Option<f64>,
    /// Out of how much of the probability is chosen.
    pub(crate) top_p: Option<f64>,
    /// Out of how many tokens is chosen.
    pub(crate) top_k: Option<u64>,
    /// Texts at which the answer ends.
    pub(crate) stop: Vec<Cow<'a, str>>,
    /// The form that the answer must have.
    pub(crate) format: Option<Format<'a>>,
    /// How much the model may think.
    pub(crate) effort: Option<Effort>,
    /// Who asks, for the provider's fight against abuse.
    pub(crate) user: Option<Cow<'a, str>>,
    /// Whether the answer is streamed.
    pub(crate) stream: bool,
    /// Whether a stream says its tokens at its end; shapes that always do ignore it.
    pub(crate) stream_usage: bool,
    /// The provider says a stream's tokens unasked, and refuses to be asked for them.
    pub(crate) usage_unasked: bool,
    /// Fields without a place above, in the order in which they came.
    pub(crate) rest: Vec<Rest<'a>>,
}

impl Request<'_> {
    /// Whether the conversation stands in the middle of a turn, results of tools last, in which nothing was thought that can be
    /// sent back: Anthropic's models refuse to think on then ("Extended thinking": preserving thinking blocks), wherever they
    /// are asked, and who asks in a shape that has no signatures could never send it.
    fn is_without_thoughts(&self) -> bool {
        let (mut in_turn, mut results, mut behind) = (false, false, Role::Assistant);
        for message in self.messages.iter().rev().filter(|message| message.role != Role::System) {
            if message.role == Role::User {
                results &= behind == Role::User;
                results |= message.content.iter().any(|block| matches!(block, Block::ToolResult { .. }));
            } else if !results {
                break;
            } else if message.content.iter().any(Block::is_sealed) {
                return false;
            } else {
                in_turn = true;
            }
            behind = message.role;
        }
        in_turn
    }

    /// Whether a function must be called. Anthropic's models do not think then ("Extended thinking": with tool use).
    fn is_forced(&self) -> bool {
        matches!(self.tool_choice, Some(Choice::Any | Choice::Named(_)))
    }

    /// Whether one of Anthropic's models may be told to think, which models that find their own measure do in the middle of a
    /// turn, too.
    pub(crate) fn may_think(&self, own_measure: bool) -> bool {
        !self.is_forced() && (own_measure || !self.is_without_thoughts())
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Message<'a> {
    /// Who says it.
    pub(crate) role: Role,
    /// What is said. Results of tools stand in messages of the user's.
    pub(crate) content: Vec<Block<'a>>,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Whoever asks.
    User,
    /// The model.
    Assistant,
    /// Whoever runs the program, in the middle of the conversation: what stood before it is in [`Request::system`].
    System,
}

/// A function that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool<'a> {
    /// Its name.
    pub(crate) name: Cow<'a, str>,
    /// What it is for.
    pub(crate) description: Option<Cow<'a, str>>,
    /// The JSON schema of its arguments, as text; without one it takes none.
    pub(crate) schema: Option<Cow<'a, str>>,
    /// Whether the arguments are held to the schema exactly.
    pub(crate) strict: Option<bool>,
    /// Whether what is before this may be cached, this included.
    pub(crate) cache_mark: bool,
}

/// Which functions are called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Choice<'a> {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Any,
    /// This one.
    Named(Cow<'a, str>),
}

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Format<'a> {
    /// Some JSON object.
    Json,
    /// JSON of this schema.
    Schema {
        /// What it is called.
        name: Option<Cow<'a, str>>,
        /// The JSON schema, as text.
        schema: Cow<'a, str>,
        /// Whether it is held to exactly.
        strict: Option<bool>,
    },
}

/// How much a model thinks before it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Not at all.
    None,
    /// As little as it can.
    Minimal,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// As much as it can.
    Max,
    /// So many tokens at most.
    Tokens(u64),
    /// As much as the model itself finds right.
    Own,
}

impl Effort {
    /// By the word that OpenAI and Anthropic have for it.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Some(match word {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            // There is one for what is above high.
            "xhigh" | "max" => Self::Max,
            _ => return None,
        })
    }

    /// The most tokens that it may think, for models that take a number; none for no thinking.
    pub(crate) const fn budget(self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Minimal | Self::Low => Some(LEAST_BUDGET),
            Self::Medium | Self::Own => Some(4096),
            Self::High => Some(16_384),
            Self::Max => Some(32_768),
            Self::Tokens(tokens) => Some(tokens),
        }
    }
}

/// The fewest tokens that Claude can be given to think ("Extended thinking", at Anthropic and in Bedrock's user guide).
pub(crate) const LEAST_BUDGET: u64 = 1024;

/// A field that the neutral request has no place for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rest<'a> {
    /// Its name in the caller's shape; with dots where it stands deeper, as in `messages.2.audio`.
    pub(crate) name: Cow<'a, str>,
    /// Its value, as JSON text.
    pub(crate) value: Cow<'a, str>,
    /// Whether the answer is as good without it: a seed, a tier of service, a label for the account's own books. What the reader
    /// does not know is none.
    pub(crate) hint: bool,
}

/// The most that is kept of such fields: no shape has so many, and a body could have millions.
const MOST_KEPT: usize = 256;

impl<'a> Rest<'a> {
    /// Keeps a field among `list`, a hint at most once by its name: an answer names each that was left out, and a list of
    /// tools could have one at each of them. What is behind [`MOST_KEPT`] others is not kept, for whatever is made of those,
    /// there is one among them that is refused.
    pub(crate) fn keep(list: &mut Vec<Self>, name: Cow<'a, str>, value: &'a str, hint: bool) {
        let is_known = |list: &[Self]| hint && list.iter().any(|known| known.hint && known.name == name);
        if list.len() < MOST_KEPT && !is_known(list) {
            list.push(Self { name, value: Cow::Borrowed(value), hint });
        }
    }
}
