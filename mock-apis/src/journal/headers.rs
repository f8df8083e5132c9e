//! Headers of a request, as an entry keeps them: sorted pairs. A map would take half a kilobyte in each of a hundred thousand entries, however
//! few headers there are.

use std::collections::BTreeMap;
use std::ops::Index;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Headers by name; written as a map.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Headers(Box<[(String, String)]>);

impl Headers {
    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&String> {
        let place = self.0.binary_search_by(|(own, _)| own.as_str().cmp(name));
        place.ok().map(|place| &self.0[place].1)
    }

    /// Whether it is there.
    pub fn contains_key(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter().map(|(name, value)| (name, value))
    }
}

impl Index<&str> for Headers {
    type Output = String;

    /// The value of a header that is known to be there.
    fn index(&self, name: &str) -> &String {
        self.get(name).expect("no such header")
    }
}

impl From<BTreeMap<String, String>> for Headers {
    fn from(map: BTreeMap<String, String>) -> Self {
        Self(map.into_iter().collect())
    }
}

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(BTreeMap::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_written_and_found_as_in_a_map() {
        let map: BTreeMap<String, String> = [("b", "2"), ("a", "1"), ("c", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let headers = Headers::from(map.clone());
        let text = serde_json::to_string(&headers).unwrap();
        assert_eq!(text, serde_json::to_string(&map).unwrap());
        assert_eq!(serde_json::from_str::<Headers>(&text).unwrap(), headers);
        assert_eq!((headers.get("b"), headers.get("x")), (map.get("b"), None));
        assert!(headers.contains_key("c") && headers["a"] == "1");
    }
}
