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
    /// Says what is missing.
    ///
    /// # Errors
    /// Always.
    pub fn load(&self) -> Result<LoadedTls, Vec<Problem>> {
        let message = "sluicegate was built without its cargo feature `tls`, and cannot serve https";
        Err(vec![Problem { path: "server.tls".to_owned(), message: message.to_owned() }])
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn tls_on_the_data_plane_is_refused_and_the_feature_named() {
        let text = r#"{ "server": { "tls": { "cert_file": "cert.pem", "key_file": "key.pem" } } }"#;
        let error = Config::from_json(text, &|_: &str| None).expect_err("there is no TLS");
        assert_eq!(error.problems.len(), 1, "{error}");
        assert_eq!(error.problems[0].path, "server.tls");
        assert!(error.problems[0].message.contains("`tls`"), "{error}");
    }
}
