//! The dashboard: one page for a browser, put together while compiling, that asks for nothing but the admin plane's own pages.
//!
//! It has no data in it: what it shows it reads from `/stats`, `/history`, `/events`, `/threads` and `/config`, and whoever may
//! not read these sees an empty page. Its policy lets run no script and no style but these very ones, known by their hashes, and
//! talk to nobody but the listener that it came from. The script is one function in several files, in the order below: `base`
//! has what the others use, `chart` and `cells` draw, `lanes` shows providers and `house` all else, `orders` are the buttons,
//! `poll` keeps it live.

use std::borrow::Cow;
use std::sync::LazyLock;

use sha2::{Digest as _, Sha256};

use crate::wire::base64;

/// The admin plane's routes, for people.
pub(super) const ROUTES: &str = include_str!("routes.txt");

const STYLE: &str = include_str!("style.css");

const SCRIPT: &str = concat!(
    "\"use strict\";\n(() => {\n",
    include_str!("base.js"),
    include_str!("chart.js"),
    include_str!("cells.js"),
    include_str!("lanes.js"),
    include_str!("house.js"),
    include_str!("orders.js"),
    include_str!("poll.js"),
    "})();\n",
);

/// Where the style, the list of routes and the script belong in the page.
const PLACES: [(&str, &str); 3] = [("{{style}}", STYLE), ("{{routes}}", ROUTES), ("{{script}}", SCRIPT)];

static PAGE: LazyLock<String> = LazyLock::new(|| {
    PLACES.iter().fold(include_str!("page.html").to_owned(), |page, (place, text)| page.replace(place, text))
});

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| base64::encode(&Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
        hash(SCRIPT),
        hash(STYLE),
    )
});

/// Whether a request is for the page itself.
pub(super) fn is_asked_for(method: &str, path: &str) -> bool {
    matches!(method, "GET" | "HEAD") && path == "/"
}

/// The page; one that is `locked` asks for the admin key before it asks for anything else.
pub(super) fn page(locked: bool) -> Cow<'static, str> {
    if locked { PAGE.replacen("<body>", "<body data-key=\"asked\">", 1).into() } else { PAGE.as_str().into() }
}

/// What a browser may do for the page: `Content-Security-Policy`.
pub(super) fn policy() -> &'static str {
    &POLICY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text between the two, which stand in the page once.
    fn inside<'a>(page: &'a str, open: &str, close: &str) -> &'a str {
        assert_eq!((page.matches(open).count(), page.matches(close).count()), (1, 1), "{open}");
        let from = page.find(open).expect("it is there") + open.len();
        &page[from..page.find(close).expect("it is there")]
    }

    #[test]
    fn the_policy_lets_run_what_stands_in_the_page_and_nothing_else() {
        for locked in [false, true] {
            let page = page(locked);
            for (kind, open, close) in [("script", "<script>", "</script>"), ("style", "<style>", "</style>")] {
                let text = inside(&page, open, close);
                let hash = base64::encode(&Sha256::digest(text.as_bytes()));
                assert!(policy().contains(&format!("{kind}-src 'sha256-{hash}'")), "{kind}");
            }
        }
        assert!(policy().starts_with("default-src 'none'") && !policy().contains("unsafe"));
    }

    #[test]
    fn the_page_is_whole_and_refers_to_nothing_outside() {
        let page = page(false);
        assert!(!page.contains("{{"), "a place was not filled");
        assert!(page.contains("POST /drain"));
        for outside in ["http://", "https://", "src=", "@import", "url(", "innerHTML", "eval("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
        }
        // An attribute with a style or a handler would be refused by the policy, silently.
        for refused in [" style=\"", " onclick=", " onload="] {
            assert!(!page.contains(refused), "{refused}");
        }
    }

    #[test]
    fn only_a_look_at_the_root_is_the_page() {
        assert!(is_asked_for("GET", "/") && is_asked_for("HEAD", "/"));
        for (method, path) in
            [("POST", "/"), ("GET", "//"), ("GET", ""), ("GET", "/stats"), ("GET", "/?x"), ("get", "/")]
        {
            assert!(!is_asked_for(method, path), "{method} {path}");
        }
    }

    #[test]
    fn a_locked_page_says_so() {
        assert!(page(true).contains("<body data-key=\"asked\">") && !page(false).contains("data-key=\"asked\">"));
    }
}
