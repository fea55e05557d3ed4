//! What stands for the series of single models in a build without the feature `front`, which has nobody to show them to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::figures::Figures;
use crate::config;
use crate::error::Code;
use crate::model::{Operation, Usage};

#[derive(Debug, Default)]
pub(crate) struct Series;

impl Series {
    pub(super) fn know(&self, _identity: &Identity) {}
}

#[derive(Debug)]
pub(crate) struct Asked;

impl Asked {
    pub(crate) fn of(_operation: &Operation, _model: &Arc<str>) -> Self {
        Self
    }

    pub(super) fn accepted(&mut self, _series: &Series) {}

    pub(super) fn note_usage(&self, _series: &Series, _usage: Usage) {}

    pub(super) fn note_chunks(&self, _series: &Series, _chunks: &Chunks) {}

    pub(super) fn note_attempt(&self, _series: &Series, _failed: Option<Code>, _took: Duration) {}
}

#[derive(Debug)]
pub(crate) struct Asking;

impl Asking {
    pub(super) fn new(_figures: &Arc<Figures>, _operation: &Operation, _model: &Arc<str>) -> Self {
        Self
    }

    pub(crate) fn ended(&self, _failed: Option<Code>, _took: Duration) {}
}

#[derive(Debug)]
pub(crate) struct Chunks;

impl Chunks {
    pub(super) fn since(_taken: Instant) -> Self {
        Self
    }

    pub(super) fn came(&mut self) {}

    pub(super) fn heard(&mut self, _at: Instant) {}
}

/// Who a provider is by the convention: nobody asks.
#[derive(Clone, Debug)]
pub struct Identity;

impl Identity {
    pub(crate) fn nobody() -> Self {
        Self
    }

    pub(crate) fn of(_provider: &config::Provider) -> Self {
        Self
    }
}
