//! What stands for the files of `server.tls` in a build without the feature `tls`: they are not read.

use super::super::error::Problem;
use super::Tls;

/// What sessions are begun with, if there could be any.
#[derive(Clone, Debug)]
pub enum LoadedTls {}

impl LoadedTls {
    /// What is to be warned of in a certificate that is used all the same.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        match *self {}
    }
}

impl Tls {
    /// Says what is missing:
    ///
    /// ```
    /// let config = r#"{ "server": { "tls": { "cert_file": "cert.pem", "key_file": "key.pem" } } }"#;
    /// let error = sluicegate::Config::from_json(config, &|_: &str| None).expect_err("there is no TLS");
    /// assert_eq!(error.problems.len(), 1, "{error}");
    /// assert_eq!(error.problems[0].path, "server.tls");
    /// assert!(error.problems[0].message.contains("cargo feature `tls`"), "{error}");
    /// ```
    ///
    /// # Errors
    /// Always.
    pub fn load(&self) -> Result<LoadedTls, Vec<Problem>> {
        let message = "sluicegate was built without its cargo feature `tls`, and cannot serve https";
        Err(vec![Problem { path: "server.tls".to_owned(), message: message.to_owned() }])
    }
}
