//! SCRAM-SHA-256 (RFC 5802, RFC 7677) without channel binding, for both sides.
//! What a server keeps is [`Credentials`]: from them no password and no client key can be computed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// RethinkDB's number of iterations for a password that is not empty.
pub const DEFAULT_ITERATIONS: u32 = 4096;

/// A client refuses a server that asks for more iterations than this: some seconds of work.
pub const MAX_ITERATIONS: u32 = 10_000_000;

/// `n,,` in base64: no channel binding, no authorization identity.
const CHANNEL_BINDING: &str = "biws";

type Key = [u8; 32];

/// Why an exchange failed. Displayed as RethinkDB words it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is not what SCRAM allows here.
    #[error("Invalid SCRAM message: {0}")]
    Malformed(&'static str),
    /// The server has no such user.
    #[error("Unknown user")]
    UnknownUser,
    /// The client's proof does not hold.
    #[error("Wrong password")]
    WrongPassword,
    /// The server's signature does not hold: it does not know the password.
    #[error("Invalid server signature")]
    WrongServer,
    /// No source of random bytes.
    #[error("No random bytes: {0}")]
    Random(String),
}

impl ScramError {
    /// The `error_code` of a failed handshake, 10 to 20.
    pub fn code(&self) -> u64 {
        match self {
            ScramError::WrongPassword => 12,
            ScramError::UnknownUser => 17,
            ScramError::Malformed(_) => 15,
            ScramError::WrongServer | ScramError::Random(_) => 20,
        }
    }
}

/// What a server stores of a user's password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Key,
    server_key: Key,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Credentials").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Credentials for a password, with a fresh salt. One iteration for the empty password, as RethinkDB does;
    /// otherwise some milliseconds of work.
    pub fn for_password(password: &str) -> Result<Credentials, ScramError> {
        let iterations = if password.is_empty() { 1 } else { DEFAULT_ITERATIONS };
        Ok(Credentials::new(password, random_bytes::<16>()?.to_vec(), iterations))
    }

    /// Credentials for a password, a salt and a number of iterations (at least 1).
    pub fn new(password: &str, salt: Vec<u8>, iterations: u32) -> Credentials {
        let iterations = iterations.max(1);
        let salted = salted_password(password, &salt, iterations);
        Credentials {
            stored_key: Sha256::digest(hmac(&salted, b"Client Key")).into(),
            server_key: hmac(&salted, b"Server Key"),
            salt,
            iterations,
        }
    }
}

/// The client's side of one exchange: [`first`](Self::first), [`answer`](Self::answer), [`verify`](Self::verify).
pub struct ScramClient {
    password: String,
    nonce: String,
    first_bare: String,
    server_signature: Option<Key>,
}

impl ScramClient {
    /// Begins an exchange with a random nonce.
    pub fn new(user: &str, password: &str) -> Result<ScramClient, ScramError> {
        let nonce = BASE64.encode(random_bytes::<18>()?);
        Ok(ScramClient::with_nonce(user, password, nonce))
    }

    fn with_nonce(user: &str, password: &str, nonce: String) -> ScramClient {
        let first_bare = format!("n={},r={nonce}", user.replace('=', "=3D").replace(',', "=2C"));
        ScramClient { password: password.to_owned(), nonce, first_bare, server_signature: None }
    }

    /// The client's first message.
    pub fn first(&self) -> String {
        format!("n,,{}", self.first_bare)
    }

    /// The client's final message, computed from the server's first. Milliseconds of work.
    pub fn answer(&mut self, server_first: &str) -> Result<String, ScramError> {
        let nonce = attribute(server_first, 'r').ok_or(ScramError::Malformed("no nonce from the server"))?;
        if !nonce.starts_with(&self.nonce) {
            return Err(ScramError::Malformed("the server's nonce does not begin with the client's"));
        }
        let salt = attribute(server_first, 's')
            .and_then(|salt| BASE64.decode(salt).ok())
            .ok_or(ScramError::Malformed("no salt from the server"))?;
        let iterations = attribute(server_first, 'i')
            .and_then(|iterations| iterations.parse::<u32>().ok())
            .filter(|iterations| (1..=MAX_ITERATIONS).contains(iterations))
            .ok_or(ScramError::Malformed("no acceptable number of iterations from the server"))?;

        let salted = salted_password(&self.password, &salt, iterations);
        let without_proof = format!("c={CHANNEL_BINDING},r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let client_key = hmac(&salted, b"Client Key");
        let stored_key: Key = Sha256::digest(client_key).into();
        let proof = xor(client_key, hmac(&stored_key, signed.as_bytes()));
        self.server_signature = Some(hmac(&hmac(&salted, b"Server Key"), signed.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks the server's final message: only a server that knows the password can make it.
    pub fn verify(&self, server_final: &str) -> Result<(), ScramError> {
        let signature = attribute(server_final, 'v').and_then(|signature| BASE64.decode(signature).ok());
        match (signature, &self.server_signature) {
            (Some(signature), Some(expected)) if equal(&signature, expected) => Ok(()),
            _ => Err(ScramError::WrongServer),
        }
    }
}

/// The server's side of one exchange, after the client's first message.
pub struct ScramServer {
    user: String,
    credentials: Credentials,
    nonce: String,
    first_bare: String,
    server_first: String,
}

impl ScramServer {
    /// Reads the client's first message. `lookup` gives a user's credentials.
    pub fn begin(
        client_first: &str,
        lookup: impl FnOnce(&str) -> Option<Credentials>,
    ) -> Result<ScramServer, ScramError> {
        let first_bare =
            client_first.strip_prefix("n,,").ok_or(ScramError::Malformed("channel binding is not supported"))?;
        let user = attribute(first_bare, 'n').and_then(unescape).ok_or(ScramError::Malformed("no valid user name"))?;
        let client_nonce = attribute(first_bare, 'r')
            .filter(|nonce| !nonce.is_empty())
            .ok_or(ScramError::Malformed("no nonce from the client"))?;
        let credentials = lookup(&user).ok_or(ScramError::UnknownUser)?;
        let nonce = format!("{client_nonce}{}", BASE64.encode(random_bytes::<18>()?));
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&credentials.salt), credentials.iterations);
        Ok(ScramServer { user, credentials, nonce, first_bare: first_bare.to_owned(), server_first })
    }

    /// The server's first message.
    pub fn challenge(&self) -> &str {
        &self.server_first
    }

    /// Checks the client's final message; gives the server's final message and the user's name.
    pub fn finish(self, client_final: &str) -> Result<(String, String), ScramError> {
        let (without_proof, proof) =
            client_final.rsplit_once(",p=").ok_or(ScramError::Malformed("no proof from the client"))?;
        if attribute(without_proof, 'c') != Some(CHANNEL_BINDING) {
            return Err(ScramError::Malformed("channel binding is not supported"));
        }
        if attribute(without_proof, 'r') != Some(&self.nonce) {
            return Err(ScramError::Malformed("the nonce is not the one that was given"));
        }
        let proof: Key = BASE64
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(ScramError::Malformed("no valid proof from the client"))?;
        let signed = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let client_key = xor(proof, hmac(&self.credentials.stored_key, signed.as_bytes()));
        if !equal(&Sha256::digest(client_key), &self.credentials.stored_key) {
            return Err(ScramError::WrongPassword);
        }
        let signature = hmac(&self.credentials.server_key, signed.as_bytes());
        Ok((format!("v={}", BASE64.encode(signature)), self.user))
    }
}

fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Key {
    pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, iterations)
}

fn hmac(key: &[u8], message: &[u8]) -> Key {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn xor(mut left: Key, right: Key) -> Key {
    left.iter_mut().zip(right).for_each(|(left, right)| *left ^= right);
    left
}

/// Compares in a time that does not depend on where two texts of one length differ.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right)) == 0
}

fn random_bytes<const N: usize>() -> Result<[u8; N], ScramError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ScramError::Random(error.to_string()))?;
    Ok(bytes)
}

fn attribute(message: &str, name: char) -> Option<&str> {
    message.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// Undoes `=2C` and `=3D`; `None` for any other `=`.
fn unescape(name: &str) -> Option<String> {
    let mut parts = name.split('=');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (character, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return None,
        };
        plain.push(character);
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7677() {
        let mut client = ScramClient::with_nonce("user", "pencil", "rOprNGfwEbeRWgbNEkqO".to_owned());
        assert_eq!(client.first(), "n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let answer = client
            .answer("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
            .expect("a valid challenge");
        assert_eq!(
            answer,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert_eq!(client.verify("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert_eq!(client.verify("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Err(ScramError::WrongServer));
    }

    #[test]
    fn client_and_server_agree_on_every_name_and_password() {
        for (user, password) in [("admin", ""), ("a=b,c", "pa,ss=wörd"), ("=2C", "x")] {
            let kept = Credentials::for_password(password).expect("random bytes");
            let mut client = ScramClient::new(user, password).expect("random bytes");
            let server =
                ScramServer::begin(&client.first(), |name| (name == user).then(|| kept.clone())).expect("a known user");
            assert_eq!(server.challenge().ends_with(",i=1"), password.is_empty());
            let answer = client.answer(server.challenge()).expect("a valid challenge");
            let (last, name) = server.finish(&answer).expect("the right password");
            assert_eq!((client.verify(&last), name.as_str()), (Ok(()), user));
        }
    }

    #[test]
    fn wrong_passwords_users_and_messages_are_told_apart() {
        let kept = Credentials::for_password("right").expect("random bytes");
        let mut client = ScramClient::new("admin", "wrong").expect("random bytes");
        let server = ScramServer::begin(&client.first(), |_| Some(kept.clone())).expect("a known user");
        let answer = client.answer(server.challenge()).expect("a valid challenge");
        assert_eq!(server.finish(&answer).expect_err("wrong").code(), 12);
        assert_eq!(ScramServer::begin(&client.first(), |_| None).err(), Some(ScramError::UnknownUser));
        for bad in ["", "n,,", "y,,n=a,r=b", "n,,n=a", "n,,n==4,r=b", "n,,n=a,r="] {
            let begun = ScramServer::begin(bad, |_| Some(kept.clone()));
            assert!(matches!(begun, Err(ScramError::Malformed(_))), "{bad}");
        }
        for bad in ["", "r=x,s=,i=1", &format!("r={},s=,i=0", client.nonce), &format!("r={},i=1", client.nonce)] {
            assert!(matches!(client.answer(bad), Err(ScramError::Malformed(_))), "{bad}");
        }
    }
}
