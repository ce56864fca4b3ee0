//! A barrier that no panic passes, and that keeps its message off the terminal.
//!
//! Guarantees: [`run`] returns whatever the closure does, or the panic as text; panics outside of it, on any thread,
//! are reported as they were before.
//! Refuses: nothing. An abort (stack overflow, out of memory in a collection) is not a panic and still ends the
//! process.
//! How: the process has one panic hook, so it is wrapped once, for good; whether it speaks is decided by thread.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `f`; a panic in it comes back as its message and place.
pub(super) fn run<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static WRAPPED: Once = Once::new();
    WRAPPED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| match DEPTH.get() {
            0 => before(info),
            _ => MESSAGE.set(Some(describe(info))),
        }));
    });
    DEPTH.set(DEPTH.get() + 1);
    // What the closure leaves half done is dropped with the model that it belonged to.
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|_| MESSAGE.take().unwrap_or_else(|| "panic".to_owned()))
}

fn describe(info: &PanicHookInfo) -> String {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(|l| {
        // The path of a build machine says nothing; the file and the line do.
        let file = l.file().rsplit(['/', '\\']).next().unwrap_or_default();
        format!(" ({file}:{})", l.line())
    });
    format!("{}{}", text.unwrap_or("panic"), place.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_become_text_on_every_thread() {
        std::thread::scope(|scope| {
            for i in 0..8 {
                scope.spawn(move || {
                    let inner = || run(|| panic!("number {i}")).map(|()| 0);
                    let text = run(inner).unwrap().unwrap_err();
                    assert!(text.starts_with(&format!("number {i} (barrier.rs:")), "{text}");
                    assert_eq!(run(|| i), Ok(i));
                });
            }
        });
    }
}
