//! Who is calling: the access token that opens the services, and the user that a call runs as.
//!
//! ```text
//!   X-Access-Token: <token>          must equal the sandbox's token, when it has one
//!   Authorization: Basic <user:>     names the user; absent or empty means the default user
//! ```
//!
//! Routes that bring their own proof (signed file URLs) use [`check_token`] directly; everything else goes through
//! [`require_token`]. A token is compared in constant time.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::errors::{Fault, Kind};
use crate::state::{Settings, SharedState};
use crate::users::{User, UserDb, UserError};

/// Header that carries the access token.
pub const ACCESS_TOKEN_HEADER: &str = "x-access-token";

/// Why a caller is turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The access token is missing or wrong. (E2B's wording holds "unauthorized access".)
    #[error(
        "unauthorized access, please provide a valid access token or method signing if supported"
    )]
    BadToken,
    /// The `Authorization` header is not `Basic` with a user name.
    #[error("The `Authorization` header is not `Basic` with a user name.")]
    BadAuthorization,
    /// The user is unknown.
    #[error(transparent)]
    User(#[from] UserError),
    /// The sandbox has no identity yet.
    #[error("The sandbox is still starting; try again.")]
    NotConfigured,
}

impl From<AuthError> for Fault {
    fn from(error: AuthError) -> Self {
        let kind = match error {
            AuthError::NotConfigured => Kind::Unavailable,
            AuthError::BadToken | AuthError::BadAuthorization | AuthError::User(_) => {
                Kind::Unauthenticated
            }
        };
        Self::new(kind, error.to_string())
    }
}

impl IntoResponse for AuthError {
    fn into_response(self) -> Response {
        Fault::from(self).into_response()
    }
}

/// What the token header of a request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCheck {
    /// The sandbox has no token, everybody may.
    Open,
    /// The header is there and right.
    Match,
    /// The sandbox has a token and the header is absent (or empty).
    Absent,
    /// The header is there and wrong.
    Mismatch,
}

/// Looks at the token header without judging.
#[must_use]
pub fn check_token(settings: &Settings, headers: &HeaderMap) -> TokenCheck {
    let Some(token) = &settings.access_token else {
        return TokenCheck::Open;
    };
    match headers.get(ACCESS_TOKEN_HEADER) {
        Some(value) if value.is_empty() => TokenCheck::Absent,
        Some(value) if token.matches(value.as_bytes()) => TokenCheck::Match,
        Some(_) => TokenCheck::Mismatch,
        None => TokenCheck::Absent,
    }
}

/// Middleware: turns away requests without the sandbox's token.
///
/// # Errors
/// [`AuthError::BadToken`].
pub async fn require_token(
    State(state): State<SharedState>,
    request: Request,
    next: Next,
) -> Result<Response, AuthError> {
    match check_token(&state.settings(), request.headers()) {
        TokenCheck::Open | TokenCheck::Match => Ok(next.run(request).await),
        TokenCheck::Absent | TokenCheck::Mismatch => Err(AuthError::BadToken),
    }
}

/// Middleware: turns away requests before the first `configure`.
///
/// # Errors
/// [`AuthError::NotConfigured`].
pub async fn require_configured(
    State(state): State<SharedState>,
    request: Request,
    next: Next,
) -> Result<Response, AuthError> {
    if state.settings().configured {
        Ok(next.run(request).await)
    } else {
        Err(AuthError::NotConfigured)
    }
}

/// User name in the `Authorization: Basic` header. The password is ignored; an absent header and an empty name are
/// both `None`.
///
/// # Errors
/// [`AuthError::BadAuthorization`] when the header is there and says something else.
pub fn basic_user(headers: &HeaderMap) -> Result<Option<String>, AuthError> {
    let Some(value) = headers.get(AUTHORIZATION) else {
        return Ok(None);
    };
    let decode = || {
        let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
        let (user, _password) = text.split_once(':')?;
        Some(user.to_owned())
    };
    let user = decode().ok_or(AuthError::BadAuthorization)?;
    Ok((!user.is_empty()).then_some(user))
}

/// The user that a call runs as: the one it names, else the sandbox's default.
///
/// # Errors
/// [`AuthError::BadAuthorization`], or [`AuthError::User`] when the name is not in `/etc/passwd`.
pub fn caller(settings: &Settings, users: &UserDb, headers: &HeaderMap) -> Result<User, AuthError> {
    let name = basic_user(headers)?;
    Ok(users.by_name(name.as_deref().unwrap_or(&settings.default_user))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::AccessToken;
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header value"));
        headers
    }

    fn basic(credentials: &str) -> HeaderMap {
        with(
            "authorization",
            &format!("Basic {}", STANDARD.encode(credentials)),
        )
    }

    #[test]
    fn token_check_tells_the_cases_apart() {
        let open = Settings::default();
        let closed = Settings {
            access_token: AccessToken::new("t".into()),
            ..Settings::default()
        };
        assert_eq!(check_token(&open, &HeaderMap::new()), TokenCheck::Open);
        assert_eq!(
            check_token(&open, &with(ACCESS_TOKEN_HEADER, "x")),
            TokenCheck::Open
        );
        assert_eq!(check_token(&closed, &HeaderMap::new()), TokenCheck::Absent);
        assert_eq!(
            check_token(&closed, &with(ACCESS_TOKEN_HEADER, "")),
            TokenCheck::Absent
        );
        assert_eq!(
            check_token(&closed, &with(ACCESS_TOKEN_HEADER, "x")),
            TokenCheck::Mismatch
        );
        assert_eq!(
            check_token(&closed, &with(ACCESS_TOKEN_HEADER, "t")),
            TokenCheck::Match
        );
    }

    #[test]
    fn basic_names_the_user() {
        assert_eq!(basic_user(&HeaderMap::new()), Ok(None));
        assert_eq!(basic_user(&basic("root:")), Ok(Some("root".into())));
        assert_eq!(basic_user(&basic("root:secret:x")), Ok(Some("root".into())));
        assert_eq!(basic_user(&basic(":")), Ok(None));
        for bad in ["Bearer x", "Basic", "Basic !!!", "Basic cm9vdA=="] {
            assert_eq!(
                basic_user(&with("authorization", bad)),
                Err(AuthError::BadAuthorization)
            );
        }
    }

    #[test]
    fn caller_falls_back_to_the_default_user() {
        let users = UserDb::parse("user:x:1000:1000::/home/user:\nroot:x:0:0::/root:", "");
        let settings = Settings::default();
        let uid = |headers: &HeaderMap| caller(&settings, &users, headers).map(|user| user.uid);
        assert_eq!(uid(&HeaderMap::new()), Ok(1000));
        assert_eq!(uid(&basic("root:")), Ok(0));
        assert_eq!(
            uid(&basic("nobody1:")),
            Err(AuthError::User(UserError::Unknown("nobody1".into())))
        );
    }

    proptest! {
        #[test]
        fn any_name_without_a_colon_survives(name in "[^:]{1,20}") {
            prop_assert_eq!(basic_user(&basic(&format!("{name}:"))), Ok(Some(name)));
        }

        #[test]
        fn header_parser_never_panics(value in "[ -~]{0,60}") {
            let _ = basic_user(&with("authorization", &value));
        }
    }
}
