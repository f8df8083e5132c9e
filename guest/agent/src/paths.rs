//! How a path in a request becomes an absolute path (envd's rules for `cwd`, files and directories).
//!
//! | given | becomes |
//! |---|---|
//! | empty | the default working directory, else the user's home |
//! | `/x` | itself |
//! | `~`, `~/x` | the user's home, `x` below it |
//! | `~other`, `~other/x` | refused |
//! | `x`, `./x`, `../x` | below the user's home |
//!
//! The result is cleaned lexically (`.`, `..`, repeated slashes), as the reference implementation does; symbolic links
//! are not looked at here. Pure: nothing on disk is touched.

use std::path::{Path, PathBuf};

use crate::errors::Fault;
use crate::users::User;

/// Longest path in bytes (`PATH_MAX` with its terminator, limits.h of Linux).
pub const MAX_PATH_LEN: usize = 4096;

/// Why a path cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A path holds a NUL byte.
    #[error("The path holds a NUL byte.")]
    Nul,
    /// The path is longer than 4095 bytes.
    #[error("The path is longer than {} bytes.", MAX_PATH_LEN - 1)]
    TooLong,
    /// The home of another user (`~name`) cannot be used in a path.
    #[error("The home of another user (`~name`) cannot be used in a path.")]
    OtherHome,
}

impl From<PathError> for Fault {
    fn from(error: PathError) -> Self {
        Self::invalid(error.to_string())
    }
}

/// Resolves `path` for `user` by the rules above.
///
/// # Errors
/// [`PathError`] for paths that no rule allows.
pub fn resolve(
    path: &str,
    user: &User,
    default_workdir: Option<&str>,
) -> Result<PathBuf, PathError> {
    let path = match (path, default_workdir) {
        ("", Some(default)) if !default.is_empty() => default,
        (given, _) => given,
    };
    let home = Path::new(&user.home);
    let joined = if let Some(rest) = path.strip_prefix('~') {
        match rest.strip_prefix('/') {
            Some(below) => home.join(below.trim_start_matches('/')),
            None if rest.is_empty() => home.to_path_buf(),
            None => return Err(PathError::OtherHome),
        }
    } else {
        home.join(path)
    };
    let bytes = joined.as_os_str().as_encoded_bytes();
    if bytes.contains(&0) {
        return Err(PathError::Nul);
    }
    if bytes.len() >= MAX_PATH_LEN {
        return Err(PathError::TooLong);
    }
    Ok(clean(&joined))
}

/// Lexically cleaned form of `path`, always absolute: no `.`, no `..`, no repeated or trailing slash.
#[must_use]
pub fn clean(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut result = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(part) => result.push(part),
            Component::ParentDir => {
                // At the root there is no parent: `pop` changes nothing.
                result.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    result
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
            shell: "/bin/sh".into(),
        }
    }

    fn resolved(path: &str, default: Option<&str>) -> Result<String, PathError> {
        resolve(path, &user(), default).map(|p| p.to_str().expect("UTF-8").to_owned())
    }

    #[test]
    fn follows_the_table() {
        for (given, default, expected) in [
            ("", None, "/home/user"),
            ("", Some(""), "/home/user"),
            ("", Some("/code"), "/code"),
            ("", Some("work"), "/home/user/work"),
            ("/", None, "/"),
            ("/a/./b/../c//", Some("/code"), "/a/c"),
            ("/../..", None, "/"),
            ("~", None, "/home/user"),
            ("~/", None, "/home/user"),
            ("~/x", Some("/code"), "/home/user/x"),
            ("~//etc", None, "/home/user/etc"),
            ("x", Some("/code"), "/home/user/x"),
            ("./x", None, "/home/user/x"),
            ("../x", None, "/home/x"),
            ("a~b", None, "/home/user/a~b"),
        ] {
            assert_eq!(
                resolved(given, default).as_deref(),
                Ok(expected),
                "{given:?} {default:?}"
            );
        }
    }

    #[test]
    fn refuses_what_no_rule_allows() {
        assert_eq!(resolved("~other", None), Err(PathError::OtherHome));
        assert_eq!(resolved("~other/x", None), Err(PathError::OtherHome));
        assert_eq!(resolved("/a\0b", None), Err(PathError::Nul));
        assert_eq!(
            resolved(&"a".repeat(MAX_PATH_LEN), None),
            Err(PathError::TooLong)
        );
    }

    proptest! {
        #[test]
        fn results_are_absolute_and_clean(path in ".{0,100}", default in proptest::option::of(".{0,20}")) {
            if let Ok(path) = resolve(&path, &user(), default.as_deref()) {
                prop_assert!(path.is_absolute());
                prop_assert_eq!(clean(&path), path);
            }
        }

        #[test]
        fn absolute_clean_paths_are_kept(parts in proptest::collection::vec("[a-z]{1,8}", 0..6)) {
            let path = format!("/{}", parts.join("/"));
            prop_assert_eq!(resolved(&path, Some("/code")), Ok(path));
        }
    }
}
