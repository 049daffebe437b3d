//! One message from the server, cut off the front of a byte buffer.
//!
//! postgres-protocol decodes the messages; two tags it does not know (`W`, CopyBothResponse, and `v`,
//! NegotiateProtocolVersion) are handled here. A length above [`MESSAGE_SIZE_MAX`] is an error before
//! anything is allocated for it.

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{self, ErrorFields, Header, Message};

use crate::{Error, Result};

/// Largest message accepted, in bytes. A walsender sends at most 128 KiB of WAL at a time; the largest
/// honest message is a timeline history file in one row.
pub const MESSAGE_SIZE_MAX: u64 = 16 << 20;

/// The values of one row, in text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Vec<Option<Bytes>>);

/// What the server asks for, or says, while a connection is being authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Done.
    Ok,
    /// SASL, with the mechanisms on offer.
    Sasl(Vec<String>),
    /// The challenge of a SASL exchange.
    SaslContinue(Bytes),
    /// The server's proof at the end of a SASL exchange.
    SaslFinal(Bytes),
    /// A method that is not supported, by name.
    Unsupported(&'static str),
}

/// A message from the server, reduced to what a replication client acts on.
#[derive(Debug)]
pub enum BackendMessage {
    /// A step of authentication.
    Authentication(Authentication),
    /// A setting the server reports; may arrive at any time.
    ParameterStatus {
        /// Name of the setting.
        name: String,
        /// Its value.
        value: String,
    },
    /// A notice; may arrive at any time. An [`Error::Server`] that is none.
    Notice(Error),
    /// The command failed. Always an [`Error::Server`].
    Error(Error),
    /// A result set begins.
    RowDescription,
    /// A row of a result set.
    Row(Row),
    /// A copy from the server begins.
    CopyOut,
    /// A copy in both directions begins.
    CopyBoth,
    /// Content of a copy.
    CopyData(Bytes),
    /// The server has no more to copy.
    CopyDone,
    /// One command is complete.
    CommandComplete,
    /// The server waits for the next command.
    ReadyForQuery,
    /// Something that changes nothing for us.
    Other,
}

impl BackendMessage {
    /// Takes one whole message off the front of `buffer`, or `None` if more bytes are needed.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>> {
        let Some(header) = Header::parse(buffer).map_err(|e| Error::protocol(e.to_string()))?
        else {
            return Ok(None);
        };
        let length = u64::try_from(header.len())
            .map_err(|_| Error::protocol("a message of negative length"))?
            .saturating_add(1);
        if length > MESSAGE_SIZE_MAX {
            return Err(Error::TooLong { length, limit: MESSAGE_SIZE_MAX });
        }
        let length = usize::try_from(length).map_err(|_| Error::protocol("length"))?;
        if buffer.len() < length {
            // One allocation for the whole message instead of growing towards it.
            buffer.reserve(length - buffer.len());
            return Ok(None);
        }
        if matches!(header.tag(), b'W' | b'v') {
            buffer.advance(length);
            let both = header.tag() == b'W';
            return Ok(Some(if both { Self::CopyBoth } else { Self::Other }));
        }
        let message = Message::parse(buffer).map_err(|e| Error::protocol(e.to_string()))?;
        message.map(Self::reduce).transpose()
    }

    fn reduce(message: Message) -> Result<Self> {
        let wrong = |e: std::io::Error| Error::protocol(e.to_string());
        Ok(match message {
            Message::AuthenticationOk => Self::Authentication(Authentication::Ok),
            Message::AuthenticationSasl(body) => Self::Authentication(Authentication::Sasl(
                body.mechanisms().map(|m| Ok(m.to_owned())).collect().map_err(wrong)?,
            )),
            Message::AuthenticationSaslContinue(body) => Self::Authentication(
                Authentication::SaslContinue(Bytes::copy_from_slice(body.data())),
            ),
            Message::AuthenticationSaslFinal(body) => {
                Self::Authentication(Authentication::SaslFinal(Bytes::copy_from_slice(body.data())))
            }
            Message::AuthenticationMd5Password(_) => unsupported("md5"),
            Message::AuthenticationCleartextPassword => unsupported("password"),
            Message::AuthenticationGss | Message::AuthenticationKerberosV5 => unsupported("gss"),
            Message::AuthenticationSspi => unsupported("sspi"),
            Message::ParameterStatus(body) => Self::ParameterStatus {
                name: body.name().map_err(wrong)?.to_owned(),
                value: body.value().map_err(wrong)?.to_owned(),
            },
            Message::NoticeResponse(body) => Self::Notice(server_error(body.fields())?),
            Message::ErrorResponse(body) => Self::Error(server_error(body.fields())?),
            Message::RowDescription(_) => Self::RowDescription,
            Message::DataRow(body) => Self::Row(Row::read(&body)?),
            Message::CopyOutResponse(_) => Self::CopyOut,
            Message::CopyData(body) => Self::CopyData(body.into_bytes()),
            Message::CopyDone => Self::CopyDone,
            Message::CommandComplete(_) => Self::CommandComplete,
            Message::ReadyForQuery(_) => Self::ReadyForQuery,
            _ => Self::Other,
        })
    }
}

impl Row {
    fn read(body: &backend::DataRowBody) -> Result<Self> {
        let buffer = body.buffer_bytes();
        let values = body
            .ranges()
            .map(|range| Ok(range.map(|range| buffer.slice(range))))
            .collect()
            .map_err(|e| Error::protocol(e.to_string()))?;
        Ok(Self(values))
    }

    /// A row of `values`; for tests and for servers of our own.
    pub fn new(values: Vec<Option<Bytes>>) -> Self {
        Self(values)
    }

    /// The bytes of column `index`, if it is there and not null.
    pub fn bytes(&self, index: usize) -> Option<&Bytes> {
        self.0.get(index).and_then(Option::as_ref)
    }

    /// The text of column `index`; an error if the column is missing, null or not UTF-8.
    pub fn text(&self, index: usize) -> Result<&str> {
        self.text_or_null(index)?
            .ok_or_else(|| Error::protocol(format!("column {index} of a reply is null or missing")))
    }

    /// The text of column `index`, `None` when it is null or missing.
    pub fn text_or_null(&self, index: usize) -> Result<Option<&str>> {
        self.bytes(index)
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|_| Error::protocol(format!("column {index} of a reply is not UTF-8")))
            })
            .transpose()
    }
}

fn unsupported(method: &'static str) -> BackendMessage {
    BackendMessage::Authentication(Authentication::Unsupported(method))
}

fn server_error(mut fields: ErrorFields<'_>) -> Result<Error> {
    let (mut code, mut message, mut detail) = (String::new(), String::new(), None);
    while let Some(field) = fields.next().map_err(|e| Error::protocol(e.to_string()))? {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'C' => code = text(),
            b'M' => message = text(),
            b'D' => detail = Some(text()),
            _ => {}
        }
    }
    Ok(Error::Server { code, message, detail })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> BytesMut {
        let mut buffer = BytesMut::new();
        buffer.put_u8(tag);
        buffer.put_i32(i32::try_from(body.len()).unwrap() + 4);
        buffer.put_slice(body);
        buffer
    }

    #[test]
    fn a_message_is_taken_only_when_it_is_whole() {
        let whole = message(b'd', b"payload");
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert!(BackendMessage::decode(&mut part).unwrap().is_none());
            assert_eq!(part.len(), cut);
        }
        let mut buffer = whole;
        let decoded = BackendMessage::decode(&mut buffer).unwrap();
        assert!(matches!(decoded, Some(BackendMessage::CopyData(data)) if data == "payload"));
        assert!(buffer.is_empty());
    }

    #[test]
    fn copy_both_is_known() {
        let mut buffer = message(b'W', &[0, 0, 0]);
        assert!(matches!(BackendMessage::decode(&mut buffer), Ok(Some(BackendMessage::CopyBoth))));
    }

    #[test]
    fn a_huge_length_is_refused_before_it_is_believed() {
        let mut buffer = BytesMut::from(&[b'd', 0x7F, 0xFF, 0xFF, 0xFF][..]);
        assert!(matches!(BackendMessage::decode(&mut buffer), Err(Error::TooLong { .. })));
        assert!(buffer.capacity() < 1024);
    }

    #[test]
    fn an_error_keeps_what_the_server_said() {
        let mut buffer =
            message(b'E', b"SFATAL\0C28P01\0Mpassword authentication failed\0Dwhy\0\0");
        let Ok(Some(BackendMessage::Error(error))) = BackendMessage::decode(&mut buffer) else {
            panic!("no error decoded");
        };
        assert_eq!(error.sqlstate(), Some("28P01"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = BackendMessage::decode(&mut buffer) {}
        }
    }
}
