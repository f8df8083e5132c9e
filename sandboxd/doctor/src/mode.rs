//! How this host's KVM is virtualized, told from evidence.
//!
//! ```text
//!   vmx/svm flag?   hypervisor flag?   kvm_pvm module?      mode
//!        yes              no                 –              hardware
//!        yes             yes                 no             nested
//!        no               –                  –              paravirtual when /dev/kvm opens
//!         –               –                 yes             paravirtual
//! ```
//!
//! The mode is a description; whether guests really run is decided by the probe guest alone.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::check::Check;

/// What stands behind `/dev/kvm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VirtualizationMode {
    /// VMX or SVM of the bare machine.
    Hardware,
    /// VMX or SVM that another hypervisor offers to this machine.
    Nested,
    /// KVM without VMX and SVM: a paravirtual backend that needs enlightened guest kernels.
    Paravirtual,
    /// No KVM at all.
    None,
    /// The evidence does not decide.
    Unknown,
}

impl fmt::Display for VirtualizationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware virtualization",
            Self::Nested => "nested hardware virtualization",
            Self::Paravirtual => "paravirtual KVM",
            Self::None => "no KVM",
            Self::Unknown => "virtualization mode unknown",
        })
    }
}

/// The facts the mode is told from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// `vmx` or `svm` when the CPU lists it.
    pub extension: Option<&'static str>,
    /// The CPU lists `hypervisor`: this machine is itself a guest.
    pub hypervisor: bool,
    /// A KVM virtual machine could be created.
    pub kvm_creates_vm: bool,
    /// Names under `/sys/module` that begin with `kvm`, sorted.
    pub modules: Vec<String>,
    /// Nested paging parameter of the module (`ept` or `npt`), when it is readable.
    pub nested_paging: Option<bool>,
}

impl Evidence {
    /// Draws the mode from the facts.
    #[must_use]
    pub fn mode(&self) -> VirtualizationMode {
        let pvm = self.modules.iter().any(|module| module == "kvm_pvm");
        match (self.kvm_creates_vm, self.extension, self.hypervisor) {
            (false, _, _) => VirtualizationMode::None,
            (true, _, _) if pvm => VirtualizationMode::Paravirtual,
            (true, None, _) => VirtualizationMode::Paravirtual,
            (true, Some(_), true) => VirtualizationMode::Nested,
            (true, Some(_), false) => VirtualizationMode::Hardware,
        }
    }

    /// The report's line for the mode.
    #[must_use]
    pub fn check(&self) -> Check {
        let mode = self.mode();
        let mut found = vec![match self.extension {
            Some(name) => format!("CPU flag {name}"),
            None => "no vmx or svm flag".to_owned(),
        }];
        if self.hypervisor {
            found.push("itself a guest".to_owned());
        }
        if self.modules.is_empty() {
            found.push("no kvm module listed".to_owned());
        } else {
            found.push(format!("modules {}", self.modules.join(" ")));
        }
        if let Some(on) = self.nested_paging {
            found.push(format!("nested paging {}", if on { "on" } else { "off" }));
        }
        let found = format!("{mode}: {}", found.join(", "));
        match mode {
            VirtualizationMode::Hardware | VirtualizationMode::Nested
                if self.nested_paging == Some(false) =>
            {
                Check::warn(
                    "virtualization-mode",
                    found,
                    "Without nested paging each guest page fault costs the host an exit",
                    "Load the KVM module with npt=1 (AMD) or ept=1 (Intel)",
                )
            }
            VirtualizationMode::Hardware | VirtualizationMode::Nested => Check::ok(
                "virtualization-mode",
                found,
                "Snapshots and timings are comparable only within one mode",
            ),
            VirtualizationMode::Paravirtual => Check::warn(
                "virtualization-mode",
                found,
                "A KVM without VMX and SVM runs only enlightened guest kernels; the probe guest below decides",
                "Use a machine with VMX or SVM, or the lab host",
            ),
            VirtualizationMode::None | VirtualizationMode::Unknown => Check::warn(
                "virtualization-mode",
                found,
                "No virtual machine could be created; the lines on /dev/kvm say why",
                "See kvm-device",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(extension: Option<&'static str>, hypervisor: bool, module: &str) -> Evidence {
        Evidence {
            extension,
            hypervisor,
            kvm_creates_vm: true,
            modules: vec!["kvm".into(), module.into()],
            nested_paging: None,
        }
    }

    #[test]
    fn the_table_in_the_module_header_holds() {
        use VirtualizationMode::{Hardware, Nested, None, Paravirtual};
        assert_eq!(evidence(Some("vmx"), false, "kvm_intel").mode(), Hardware);
        assert_eq!(evidence(Some("svm"), true, "kvm_amd").mode(), Nested);
        assert_eq!(evidence(Option::None, true, "kvm_pvm").mode(), Paravirtual);
        assert_eq!(
            evidence(Option::None, false, "kvm_other").mode(),
            Paravirtual
        );
        assert_eq!(evidence(Some("vmx"), true, "kvm_pvm").mode(), Paravirtual);
        assert_eq!(Evidence::default().mode(), None);
    }

    #[test]
    fn the_line_lists_its_evidence() {
        let mut facts = evidence(Some("svm"), true, "kvm_amd");
        facts.nested_paging = Some(true);
        insta::assert_snapshot!(facts.check().found, @"nested hardware virtualization: CPU flag svm, itself a guest, modules kvm kvm_amd, nested paging on");
    }
}
