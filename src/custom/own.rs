//! What is the program's own: a panic of its drop ends nothing but itself.
//!
//! **Panics.** Each is dropped by itself, and its panic caught: one that leaves a drop while another panic unwinds ends the
//! process.

use std::ops::{Deref, DerefMut};

use crate::sync::threads::let_go;

/// Something of the program's own.
#[derive(Clone)]
pub(crate) struct Own<T>(Option<T>);

impl<T> Own<T> {
    pub(crate) fn new(own: T) -> Self {
        Self(Some(own))
    }
}

impl<T> Deref for Own<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(own) => own,
            None => unreachable!("it is taken by the drop alone"),
        }
    }
}

impl<T> DerefMut for Own<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(own) => own,
            None => unreachable!("it is taken by the drop alone"),
        }
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        let_go("a custom provider's", self.0.take());
    }
}
