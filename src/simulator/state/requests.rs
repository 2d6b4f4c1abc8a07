//! Answers that are given again: generation 0.1 lets a write carry a request id, so that it can be repeated.

use std::collections::{HashMap, VecDeque};

use tonic::Status;

/// Answers that are remembered; the oldest go first.
const REQUESTS_MAX: usize = 1_000;

/// The longest request id.
const REQUEST_ID_CHARS_MAX: usize = 256;

/// What was asked under an id, and what was answered.
#[derive(Debug, Default)]
pub(in crate::simulator) struct Requests {
    answers: HashMap<Asked, Given>,
    order: VecDeque<Asked>,
}

/// The method and the request id.
type Asked = (&'static str, String);

/// A request and its answer, both encoded.
#[derive(Debug)]
struct Given {
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Requests {
    /// The answer that was given to the same request before.
    pub(in crate::simulator) fn recall(
        &self,
        method: &'static str,
        id: &str,
        body: &[u8],
    ) -> Result<Option<Vec<u8>>, Status> {
        if id.chars().count() > REQUEST_ID_CHARS_MAX {
            return Err(Status::invalid_argument(format!(
                "request_id is longer than {REQUEST_ID_CHARS_MAX} characters"
            )));
        }
        match self.answers.get(&(method, id.to_owned())) {
            Some(given) if given.request == body => Ok(Some(given.answer.clone())),
            Some(_) => {
                Err(Status::invalid_argument("request_id was already used with another request"))
            }
            None => Ok(None),
        }
    }

    /// Keeps an answer.
    pub(in crate::simulator) fn keep(
        &mut self,
        method: &'static str,
        id: &str,
        request: Vec<u8>,
        answer: Vec<u8>,
    ) {
        if self.order.len() == REQUESTS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        let key = (method, id.to_owned());
        self.answers.insert(key.clone(), Given { request, answer });
        self.order.push_back(key);
    }
}
