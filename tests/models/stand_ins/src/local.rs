//! Thread-locals by shuttle's threads, with the short ways that std's have for cells.

use std::cell::{Cell, RefCell};

/// The thread ends, and its locals are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError;

/// What `thread_local!` declares.
pub struct LocalKey<T: 'static>(&'static shuttle::thread::LocalKey<T>);

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn new(inner: &'static shuttle::thread::LocalKey<T>) -> Self {
        Self(inner)
    }

    pub fn with<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        self.0.with(look)
    }

    pub fn try_with<R>(&'static self, look: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.0.try_with(look).map_err(|_| AccessError)
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    pub fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    pub fn with_borrow<R>(&'static self, look: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| look(&cell.borrow()))
    }

    pub fn with_borrow_mut<R>(&'static self, change: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| change(&mut cell.borrow_mut()))
    }
}

/// `std::thread_local!`, by shuttle's threads.
#[macro_export]
macro_rules! thread_local {
    () => {};
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty = const { $init:expr } $(; $($rest:tt)*)?) => {
        $crate::thread_local!($(#[$meta])* $vis static $name: $type = $init $(; $($rest)*)?);
    };
    ($(#[$meta:meta])* $vis:vis static $name:ident : $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$meta])*
        $vis static $name: $crate::LocalKey<$type> = {
            $crate::__shuttle::thread_local!(static INNER: $type = $init);
            $crate::LocalKey::new(&INNER)
        };
        $($crate::thread_local!($($rest)*);)?
    };
}
