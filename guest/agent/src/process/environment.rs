//! The environment and command line of a process: pure.
//!
//! Later lines win: `PATH`, then `HOME`, `USER`, `LOGNAME` of the user, then the sandbox's global variables, then those
//! of the call. Nothing of the call outlives it.

use std::collections::BTreeMap;
use std::ffi::CString;

use crate::users::User;

/// Search path when nothing else names one.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a command line or environment cannot be handed to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentError {
    /// The command is empty.
    #[error("The command is empty.")]
    EmptyCommand,
    /// A string holds a NUL byte.
    #[error("The {0} holds a NUL byte.")]
    Nul(&'static str),
    /// A variable's name is empty or holds `=`.
    #[error("The environment variable name '{0}' is empty or holds `=`.")]
    BadName(String),
}

/// Merges the variables of a process.
pub fn merge<'a>(
    user: &User,
    global: &BTreeMap<String, String>,
    call: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
        ("HOME".to_owned(), user.home.clone()),
        ("USER".to_owned(), user.name.clone()),
        ("LOGNAME".to_owned(), user.name.clone()),
    ]);
    env.extend(
        global
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    env.extend(
        call.into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    env
}

/// `NAME=value` strings for the kernel.
///
/// # Errors
/// [`EnvironmentError::BadName`] and [`EnvironmentError::Nul`].
pub fn encode(env: &BTreeMap<String, String>) -> Result<Vec<CString>, EnvironmentError> {
    env.iter()
        .map(|(name, value)| {
            if name.is_empty() || name.contains('=') {
                return Err(EnvironmentError::BadName(name.clone()));
            }
            c_string(&format!("{name}={value}"), "environment")
        })
        .collect()
}

/// The programs to try for `command`: itself when it holds a slash, else one in each directory of `path`.
///
/// # Errors
/// [`EnvironmentError::EmptyCommand`] and [`EnvironmentError::Nul`].
pub fn candidates(command: &str, path: &str) -> Result<Vec<CString>, EnvironmentError> {
    if command.is_empty() {
        return Err(EnvironmentError::EmptyCommand);
    }
    if command.contains('/') {
        return Ok(vec![c_string(command, "command")?]);
    }
    path.split(':')
        .map(|dir| {
            let dir = if dir.is_empty() { "." } else { dir };
            c_string(&format!("{dir}/{command}"), "command")
        })
        .collect()
}

/// A string for the kernel; `what` names it in the error.
///
/// # Errors
/// [`EnvironmentError::Nul`].
pub fn c_string(text: &str, what: &'static str) -> Result<CString, EnvironmentError> {
    CString::new(text).map_err(|_| EnvironmentError::Nul(what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user() -> User {
        User {
            name: "user".into(),
            uid: 1000,
            gid: 1000,
            groups: vec![1000],
            home: "/home/user".into(),
            shell: "/bin/bash".into(),
        }
    }

    #[test]
    fn the_call_wins_over_the_sandbox_over_the_user() {
        let global = BTreeMap::from([
            ("A".to_owned(), "global".to_owned()),
            ("B".to_owned(), "global".to_owned()),
            ("USER".to_owned(), "other".to_owned()),
        ]);
        let env = merge(&user(), &global, [("B", "call"), ("HOME", "/tmp")]);
        insta::assert_snapshot!(
            env.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join("\n"),
            @r"
        A=global
        B=call
        HOME=/tmp
        LOGNAME=user
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        USER=other
        "
        );
    }

    #[test]
    fn unusable_names_and_values_are_refused() {
        let one = |name: &str, value: &str| encode(&[(name.into(), value.into())].into());
        assert_eq!(one("A", "x=y"), Ok(vec![c"A=x=y".into()]));
        assert_eq!(one("", "x"), Err(EnvironmentError::BadName(String::new())));
        assert_eq!(
            one("A=B", "x"),
            Err(EnvironmentError::BadName("A=B".into()))
        );
        assert_eq!(one("A", "\0"), Err(EnvironmentError::Nul("environment")));
    }

    #[test]
    fn a_bare_command_is_looked_up_in_the_path() {
        assert_eq!(candidates("/bin/sh", "/x"), Ok(vec![c"/bin/sh".into()]));
        assert_eq!(candidates("./run", "/x"), Ok(vec![c"./run".into()]));
        assert_eq!(
            candidates("sh", "/usr/bin::/bin"),
            Ok(vec![
                c"/usr/bin/sh".into(),
                c"./sh".into(),
                c"/bin/sh".into()
            ])
        );
        assert_eq!(candidates("", "/bin"), Err(EnvironmentError::EmptyCommand));
        assert_eq!(
            candidates("a\0", "/bin"),
            Err(EnvironmentError::Nul("command"))
        );
    }

    proptest! {
        #[test]
        fn every_variable_of_the_call_is_kept(
            call in proptest::collection::btree_map("[A-Z_]{1,8}", "[^\0]{0,20}", 0..8),
        ) {
            let env = merge(&user(), &BTreeMap::new(), call.iter().map(|(k, v)| (k.as_str(), v.as_str())));
            for (name, value) in &call {
                prop_assert_eq!(env.get(name), Some(value));
            }
            prop_assert_eq!(encode(&env).expect("encodable").len(), env.len());
        }
    }
}
