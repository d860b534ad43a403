//! Autograd on sizes: which activations are in memory at once, in a forward pass and in the backward pass after it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Bytes in use, and the most that were in use at once.
#[derive(Debug, Default)]
struct Meter {
    live: Cell<i64>,
    peak: Cell<i64>,
}

/// Allocated bytes, which are freed when the last value or gradient that refers to them is dropped.
#[derive(Debug)]
struct Storage {
    bytes: i64,
    meter: Rc<Meter>,
}

impl Drop for Storage {
    fn drop(&mut self) {
        self.meter.live.set(self.meter.live.get() - self.bytes);
    }
}

/// An activation: its size, and whether it has a gradient.
#[derive(Debug, Clone)]
pub struct Value {
    id: usize,
    /// Number of elements.
    pub elements: i64,
    /// Bytes per element.
    pub width: i64,
    /// Whether a gradient with respect to it is computed.
    pub has_gradient: bool,
    storage: Rc<Storage>,
}

impl Value {
    /// Its size in bytes.
    pub fn bytes(&self) -> i64 {
        self.elements * self.width
    }
}

/// An operation, as far as memory depends on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Operation<'a> {
    /// Activations that it computes from.
    pub inputs: &'a [&'a Value],
    /// Elements of its result.
    pub elements: i64,
    /// Bytes per element of its result.
    pub width: i64,
    /// Activations that its gradient needs.
    pub keeps: &'a [&'a Value],
    /// Whether its gradient needs the result.
    pub keeps_result: bool,
    /// Bytes of whatever else its gradient needs.
    pub keeps_bytes: i64,
    /// Bytes of intermediate results of the forward pass.
    pub forward: i64,
    /// Bytes of intermediate results of the backward pass.
    pub backward: i64,
    /// Number of first inputs whose gradient is the result's own, not a new tensor.
    pub passed_on: usize,
    /// Bytes of the gradients of trained tensors that it uses; they stay until the end of the step.
    pub trained: i64,
}

/// What the backward pass of an operation needs.
#[derive(Debug)]
struct Node {
    results: Vec<usize>,
    /// Inputs with a gradient: id, bytes, whether the gradient is the result's.
    inputs: Vec<(usize, i64, bool)>,
    kept: Vec<Rc<Storage>>,
    backward: i64,
    trained: i64,
}

/// The operations of a forward pass.
#[derive(Debug, Default)]
pub struct Tape {
    meter: Rc<Meter>,
    nodes: RefCell<Vec<Node>>,
    /// Gradients of trained tensors.
    gradients: RefCell<Vec<Rc<Storage>>>,
    values: Cell<usize>,
    is_off: Cell<bool>,
}

impl Tape {
    fn allocate(&self, bytes: i64) -> Rc<Storage> {
        let live = self.meter.live.get() + bytes;
        self.meter.live.set(live);
        self.meter.peak.set(self.meter.peak.get().max(live));
        Rc::new(Storage { bytes, meter: self.meter.clone() })
    }

    fn next_id(&self) -> usize {
        self.values.set(self.values.get() + 1);
        self.values.get()
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> i64 {
        self.meter.peak.get()
    }

    /// An input without gradient.
    pub fn input(&self, elements: i64, width: i64) -> Value {
        let storage = self.allocate(elements * width);
        Value { id: self.next_id(), elements, width, has_gradient: false, storage }
    }

    /// The same activation as an input whose gradient is computed (torch's `detach().requires_grad_()`).
    pub fn leaf(&self, value: &Value) -> Value {
        Value { id: self.next_id(), has_gradient: true, ..value.clone() }
    }

    /// Runs `act` without keeping anything for a backward pass.
    pub fn no_grad<T>(&self, act: impl FnOnce() -> T) -> T {
        let was_off = self.is_off.replace(true);
        let result = act();
        self.is_off.set(was_off);
        result
    }

    /// The result of an operation.
    pub fn apply(&self, operation: Operation<'_>) -> Value {
        let Operation { inputs, elements, width, .. } = operation;
        let temporary = self.allocate(operation.forward);
        let storage = self.allocate(elements * width);
        drop(temporary);
        let has_inputs = inputs.iter().any(|input| input.has_gradient);
        let has_gradient = !self.is_off.get() && (has_inputs || operation.trained > 0);
        let result = Value { id: self.next_id(), elements, width, has_gradient, storage };
        if has_gradient {
            let mut kept: Vec<_> = operation.keeps.iter().map(|value| value.storage.clone()).collect();
            if operation.keeps_result {
                kept.push(result.storage.clone());
            }
            kept.push(self.allocate(operation.keeps_bytes));
            let with_gradient = inputs.iter().enumerate().filter(|(_, input)| input.has_gradient);
            let inputs = with_gradient
                .map(|(place, input)| (input.id, input.bytes(), place < operation.passed_on))
                .collect();
            let Operation { backward, trained, .. } = operation;
            self.nodes.borrow_mut().push(Node { results: vec![result.id], inputs, kept, backward, trained });
        }
        result
    }

    /// Views of `parts` equal parts of an activation; their gradients are stacked in a new tensor.
    pub fn split(&self, value: &Value, parts: usize) -> Vec<Value> {
        let has_gradient = value.has_gradient && !self.is_off.get();
        let elements = value.elements / i64::try_from(parts).unwrap_or(1);
        let part = |_| Value { id: self.next_id(), elements, has_gradient, ..value.clone() };
        let views: Vec<Value> = (0..parts).map(part).collect();
        if has_gradient {
            self.nodes.borrow_mut().push(Node {
                results: views.iter().map(|view| view.id).collect(),
                inputs: vec![(value.id, value.bytes(), false)],
                kept: Vec::new(),
                backward: 0,
                trained: 0,
            });
        }
        views
    }

    /// The backward pass from a result. What it kept is freed on the way; returns the gradient of `input`, if that is asked
    /// for, as an activation.
    pub fn backward(&self, result: Value, input: Option<&Value>) -> Option<Value> {
        let mut gradients = BTreeMap::new();
        gradients.insert(result.id, self.allocate(result.bytes()));
        drop(result);
        loop {
            let Some(node) = self.nodes.borrow_mut().pop() else { break };
            let of_results: Vec<_> = node.results.iter().filter_map(|id| gradients.remove(id)).collect();
            let Some(first) = of_results.first() else { continue };
            let temporary = self.allocate(node.backward);
            let own = |&(id, bytes, passed_on): &(usize, i64, bool)| {
                (id, bytes, if passed_on { first.clone() } else { self.allocate(bytes) })
            };
            let of_inputs: Vec<_> = node.inputs.iter().map(own).collect();
            if node.trained > 0 {
                let of_trained = self.allocate(node.trained);
                self.gradients.borrow_mut().push(of_trained);
            }
            drop((temporary, node.kept, of_results));
            for (id, bytes, gradient) in of_inputs {
                let sum = match gradients.remove(&id) {
                    None => gradient,
                    // In place, unless something else refers to it.
                    Some(sum) if Rc::strong_count(&sum) == 1 => sum,
                    Some(_shared) => self.allocate(bytes),
                };
                gradients.insert(id, sum);
            }
        }
        let input = input?;
        let storage = gradients.remove(&input.id)?;
        Some(Value { id: self.next_id(), has_gradient: false, storage, ..input.clone() })
    }

    /// Gradients of trained tensors so far, bytes.
    pub fn gradient_bytes(&self) -> i64 {
        self.gradients.borrow().iter().map(|storage| storage.bytes).sum()
    }

    /// Frees the gradients of trained tensors, as when they are used at once.
    pub fn use_gradients(&self) {
        self.gradients.borrow_mut().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// exp(exp(x)), each of which keeps its result.
    #[test]
    fn a_backward_pass_frees_what_a_forward_pass_kept() {
        let tape = Tape::default();
        let x = tape.leaf(&tape.input(100, 4));
        let exp = |x: &Value| {
            tape.apply(Operation {
                inputs: &[x],
                elements: 100,
                width: 4,
                keeps_result: true,
                ..Operation::default()
            })
        };
        let y = exp(&exp(&x));
        assert_eq!(tape.peak(), 1200);
        assert!(tape.backward(y, Some(&x)).is_some());
        // x, both results and the gradient of the second; then one result less and one gradient more.
        assert_eq!(tape.peak(), 2000);
        assert_eq!(tape.meter.live.get(), 400);
    }

    #[test]
    fn without_gradients_nothing_is_kept() {
        let tape = Tape::default();
        let mut x = tape.input(100, 4);
        for _ in 0..5 {
            x = tape.apply(Operation {
                inputs: &[&x],
                keeps: &[&x],
                elements: 100,
                width: 4,
                ..Operation::default()
            });
        }
        assert_eq!((tape.peak(), x.has_gradient), (800, false));
        let inputs = [&x];
        let trained = Operation {
            inputs: &inputs,
            keeps: &inputs,
            elements: 100,
            width: 4,
            trained: 8,
            ..Operation::default()
        };
        assert!(!tape.no_grad(|| tape.apply(trained)).has_gradient);
        let y = tape.apply(trained);
        assert!(y.has_gradient);
        tape.backward(y, None);
        assert_eq!(tape.gradient_bytes(), 8);
    }
}
