//! Getting a thread out of KVM_RUN from outside.
//!
//! A signal alone can come just before the thread enters KVM and be lost; so the kick first sets the `immediate_exit` byte
//! in the CPU's shared page, which makes the next KVM_RUN return at once (Linux, Documentation/virt/kvm/api.rst, "The
//! kvm_run structure"). This is the only module that touches that page from another thread.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::sync::lock;

extern "C" fn nothing(_: c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}

/// Makes the kick signal interrupt system calls instead of ending the process.
pub(super) fn install() -> io::Result<()> {
    register_signal_handler(SIGRTMIN(), nothing).map_err(io::Error::from)
}

/// The way to one thread; empty before it starts and after it ends.
#[derive(Default)]
pub(super) struct Kicker(Mutex<Option<Target>>);

struct Target {
    thread: libc::pthread_t,
    immediate_exit: NonNull<u8>,
}

// SAFETY: the pointer is only followed under the mutex, as an atomic, while its page is mapped (see `Attached`).
unsafe impl Send for Target {}

/// A running thread's side: as long as it lives, kicks reach the thread.
pub(super) struct Attached<'a> {
    kicker: &'a Kicker,
    immediate_exit: NonNull<u8>,
}

impl Kicker {
    /// Interrupts the thread, if it runs.
    pub fn kick(&self) {
        if let Some(target) = &*lock(&self.0) {
            flag(&target.immediate_exit).store(1, Ordering::SeqCst);
            // SAFETY: the thread has not ended: it empties this place, under the mutex we hold, before it does.
            unsafe { libc::pthread_kill(target.thread, SIGRTMIN()) };
        }
    }

    /// Makes the calling thread, which runs `fd`, the one that is kicked. `fd` must outlive what is returned.
    pub fn attach(&self, fd: &mut VcpuFd) -> Attached<'_> {
        let immediate_exit = NonNull::from(&mut fd.get_kvm_run().immediate_exit);
        // SAFETY: pthread_self has no preconditions.
        let thread = unsafe { libc::pthread_self() };
        *lock(&self.0) = Some(Target {
            thread,
            immediate_exit,
        });
        Attached {
            kicker: self,
            immediate_exit,
        }
    }
}

impl Attached<'_> {
    /// Forgets kicks so far. To be called before the order is looked at, so that a later kick is not lost.
    pub fn clear(&self) {
        flag(&self.immediate_exit).store(0, Ordering::SeqCst);
    }
}

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        *lock(&self.kicker.0) = None;
    }
}

fn flag(byte: &NonNull<u8>) -> &AtomicU8 {
    // SAFETY: the byte lies in the page that KVM shares with us, mapped until the CPU's descriptor is dropped. The thread
    // that owns the descriptor drops its `Attached` first, which takes the pointer from the `Kicker`. Everyone on this
    // side of KVM accesses the byte through here, atomically.
    unsafe { AtomicU8::from_ptr(byte.as_ptr()) }
}
