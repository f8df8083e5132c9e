//! The serial port: a 16550 that only talks. What it says goes to a [`SerialLog`] and, by its last lines, to a
//! [`SerialTail`] from which a panic's words can be told.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::bus::BusDevice;
use crate::serial_log::SerialLog;
use crate::sync::lock;

/// Ports taken.
pub const PORTS: u64 = 8;
/// Longest line that the tail keeps, in bytes.
const MAX_LINE: usize = 240;
const PANIC_MARK: &str = "Kernel panic";

/// The line being written and the newest one that speaks of a panic.
#[derive(Default)]
pub struct SerialTail {
    line: Vec<u8>,
    panic: Option<String>,
}

impl SerialTail {
    /// Takes one byte.
    pub fn push(&mut self, byte: u8) {
        if byte == b'\n' {
            self.end_line();
        } else if self.line.len() < MAX_LINE {
            self.line.push(byte);
        }
    }

    /// The newest line that begins with the kernel's mark of a panic, behind a time stamp if there is one.
    pub fn panic_line(&mut self) -> Option<String> {
        self.end_line();
        self.panic.clone()
    }

    fn end_line(&mut self) {
        let text = String::from_utf8_lossy(&self.line);
        let words = match text.split_once("] ") {
            Some((stamp, rest)) if stamp.starts_with('[') => rest,
            _ => &text,
        };
        if words.starts_with(PANIC_MARK) {
            let shown = |c: char| if c.is_control() { ' ' } else { c };
            self.panic = Some(words.trim_end().chars().map(shown).collect());
        }
        self.line.clear();
    }
}

/// The interrupt line: a write to an eventfd that KVM watches.
struct Line(Arc<EventFd>);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        // A full counter means that the interrupt is already on its way.
        let _ = self.0.write(1);
        Ok(())
    }
}

/// Where each byte goes.
struct Output {
    log: SerialLog,
    tail: Arc<Mutex<SerialTail>>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut tail = lock(&self.tail);
        for byte in bytes {
            tail.push(*byte);
        }
        self.log.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The port as it stands in a snapshot. What was printed is not part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SerialState {
    /// Divisor latch, low and high.
    pub baud_divisor: [u8; 2],
    /// Interrupt enable register.
    pub interrupt_enable: u8,
    /// Interrupt identification register.
    pub interrupt_identification: u8,
    /// Line control register.
    pub line_control: u8,
    /// Line status register.
    pub line_status: u8,
    /// Modem control register.
    pub modem_control: u8,
    /// Modem status register.
    pub modem_status: u8,
    /// Scratch register.
    pub scratch: u8,
}

/// The port.
pub struct SerialPort {
    line: Arc<EventFd>,
    port: Serial<Line, vm_superio::serial::NoEvents, Output>,
}

impl SerialPort {
    /// A port that raises `irqfd` and writes to `log`.
    pub fn new(irqfd: Arc<EventFd>, log: SerialLog, tail: Arc<Mutex<SerialTail>>) -> Self {
        Self {
            line: Arc::clone(&irqfd),
            port: Serial::new(Line(irqfd), Output { log, tail }),
        }
    }

    /// Takes down the registers.
    pub fn state(&self) -> SerialState {
        let state = self.port.state();
        SerialState {
            baud_divisor: [state.baud_divisor_low, state.baud_divisor_high],
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
        }
    }

    /// Makes the registers what they were; output goes on to where it went.
    pub fn restore(&mut self, state: &SerialState) {
        let [baud_divisor_low, baud_divisor_high] = state.baud_divisor;
        let registers = vm_superio::serial::SerialState {
            baud_divisor_low,
            baud_divisor_high,
            interrupt_enable: state.interrupt_enable,
            interrupt_identification: state.interrupt_identification,
            line_control: state.line_control,
            line_status: state.line_status,
            modem_control: state.modem_control,
            modem_status: state.modem_status,
            scratch: state.scratch,
            in_buffer: Vec::new(),
        };
        let line = Line(Arc::clone(&self.line));
        let output = std::mem::replace(
            self.port.writer_mut(),
            Output {
                log: SerialLog::discard(),
                tail: Arc::default(),
            },
        );
        // It fails only for more input than fits, and there is none: this port never takes input.
        if let Ok(port) = Serial::from_state(&registers, line, vm_superio::serial::NoEvents, output)
        {
            self.port = port;
        }
    }

    /// Bytes taken and bytes dropped so far.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.port.writer().log.counters()
    }

    /// The words of a panic, if one was printed.
    pub fn panic_line(&self) -> Option<String> {
        lock(&self.port.writer().tail).panic_line()
    }

    /// Writes what is still held back.
    pub fn flush(&mut self) {
        self.port.writer_mut().log.flush();
    }
}

impl BusDevice for SerialPort {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.port.read(offset);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) {
            // Neither writing nor raising the interrupt reports an error, see `Output` and `Line`.
            let _ = self.port.write(offset, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn port(log: SerialLog) -> (SerialPort, Arc<EventFd>) {
        let irqfd = Arc::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let tail = Arc::new(Mutex::new(SerialTail::default()));
        (SerialPort::new(Arc::clone(&irqfd), log, tail), irqfd)
    }

    #[test]
    fn bytes_reach_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial.log");
        let (mut port, irqfd) = port(SerialLog::open(&path, 4096).unwrap());
        port.write(1, &[2]);
        for byte in b"hello\n" {
            port.write(0, &[*byte]);
        }
        assert!(irqfd.read().unwrap() > 0, "the transmitter is empty again");
        assert_eq!(std::fs::read(&path).unwrap(), b"hello\n");
    }

    #[test]
    fn the_line_status_says_ready() {
        let (mut port, _) = port(SerialLog::discard());
        let mut status = [0];
        port.read(5, &mut status);
        assert_eq!(status, [0x60]);
    }

    #[test]
    fn the_tail_finds_a_panic_and_stays_small() {
        let mut tail = SerialTail::default();
        for byte in vec![b'x'; 10_000] {
            tail.push(byte);
        }
        assert_eq!(tail.line.len(), MAX_LINE);
        assert_eq!(tail.panic_line(), None);
        for byte in b"\nsomebody said: Kernel panic\n" {
            tail.push(*byte);
        }
        assert_eq!(tail.panic_line(), None);
        for byte in b"[1.0] Kernel panic - not syncing: \x1b[1mx" {
            tail.push(*byte);
        }
        assert_eq!(
            tail.panic_line().unwrap(),
            "Kernel panic - not syncing:  [1mx"
        );
    }

    proptest! {
        #[test]
        fn any_accesses_are_survived(accesses in prop::collection::vec((any::<u64>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..9)), 0..200)) {
            let (mut port, _) = port(SerialLog::discard());
            for (offset, write, mut data) in accesses {
                // Half of the offsets are the port's own.
                let offset = if offset & 1 == 0 { offset % 8 } else { offset };
                if write {
                    port.write(offset, &data);
                } else {
                    port.read(offset, &mut data);
                }
            }
        }
    }
}
