//! The small world that the language describes: things with their kind, colour, size, place and use, causes of
//! feelings, activities with their steps, and words with their opposites.
//!
//! It is fixed and small enough to be memorised by a model with half a million parameters; questions combine it in more
//! ways than can occur in training.

/// A thing and its properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Thing {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) colour: &'static str,
    /// From 1 (a bee) to 6 (a whale); things of the same size are not compared.
    pub(super) size: u8,
    pub(super) place: &'static str,
}

macro_rules! things {
    ($($kind:literal: $($name:literal $colour:literal $size:literal $place:literal),+;)+) => {
        &[$($(Thing { name: $name, kind: $kind, colour: $colour, size: $size, place: $place }),+),+]
    };
}

/// All things.
pub(super) const THINGS: &[Thing] = things![
    "animal": "bee" "yellow" 1 "garden", "mouse" "grey" 1 "house", "frog" "green" 1 "pond", "cat" "black" 2 "house",
        "duck" "white" 2 "pond", "fox" "red" 3 "forest", "dog" "brown" 3 "house", "pig" "pink" 4 "farm",
        "sheep" "white" 4 "farm", "horse" "brown" 5 "farm", "bear" "black" 5 "forest", "whale" "blue" 6 "sea";
    "fruit": "cherry" "red" 1 "garden", "plum" "blue" 1 "garden", "lemon" "yellow" 1 "kitchen",
        "pear" "green" 1 "garden", "banana" "yellow" 2 "kitchen", "melon" "green" 2 "farm";
    "vehicle": "bike" "red" 4 "street", "car" "blue" 5 "street", "bus" "yellow" 6 "street", "ship" "white" 6 "sea",
        "truck" "green" 6 "farm", "boat" "brown" 5 "pond";
    "garment": "sock" "grey" 1 "room", "hat" "black" 2 "room", "scarf" "pink" 2 "room", "coat" "brown" 3 "room";
    "toy": "ball" "red" 2 "garden", "doll" "pink" 2 "room", "kite" "blue" 3 "street", "drum" "white" 3 "room";
];

/// Actions and their tools.
pub(super) const USES: &[(&str, &str)] = &[
    ("cut the bread", "knife"),
    ("eat the soup", "spoon"),
    ("hit the nail", "hammer"),
    ("sweep the floor", "broom"),
    ("write the letter", "pen"),
    ("open the door", "key"),
    ("wash the hands", "soap"),
    ("sew the shirt", "needle"),
    ("drink the milk", "cup"),
    ("bake the cake", "oven"),
    ("catch the fish", "net"),
    ("dig the hole", "shovel"),
    ("light the room", "lamp"),
    ("tie the boat", "rope"),
    ("paint the wall", "brush"),
    ("dry the plate", "towel"),
];

/// Events that happen to a person, and the resulting feeling.
pub(super) const FEELINGS: &[(&str, &[&str])] = &[
    ("happy", &["won the game", "got a gift", "met a friend", "heard good news"]),
    ("sad", &["lost the ring", "missed the party", "broke the doll", "heard bad news"]),
    ("tired", &["worked all day", "ran a long way", "slept too little", "carried the stones"]),
    ("scared", &["saw a ghost", "met a bear", "heard thunder", "fell into the dark"]),
    ("hungry", &["ate nothing", "missed lunch", "smelled the bread", "forgot the meal"]),
    ("angry", &["was pushed", "was robbed", "was lied to", "was called names"]),
];

/// Activities, each with its steps in order.
pub(super) const SCRIPTS: &[(&str, [&str; 3])] = &[
    ("baking", ["mixes the flour", "heats the oven", "eats the cake"]),
    ("fishing", ["takes the net", "sits at the pond", "brings home a fish"]),
    ("painting", ["opens the colours", "dips the brush", "hangs up the picture"]),
    ("sleeping", ["brushes the teeth", "lies down in bed", "closes the eyes"]),
    ("gardening", ["digs a hole", "puts in the seed", "waters the plant"]),
    ("washing", ["turns on the water", "takes the soap", "dries the hands"]),
    ("reading", ["finds a book", "opens the first page", "reads to the end"]),
    ("driving", ["unlocks the car", "starts the motor", "looks at the street"]),
    ("sewing", ["takes the needle", "pulls the thread", "wears the new shirt"]),
    ("singing", ["learns the words", "takes a deep breath", "hears the crowd clap"]),
];

/// Words and their opposites.
pub(super) const OPPOSITES: &[(&str, &str)] = &[
    ("hot", "cold"),
    ("wet", "dry"),
    ("day", "night"),
    ("old", "young"),
    ("full", "empty"),
    ("fast", "slow"),
    ("hard", "soft"),
    ("loud", "quiet"),
    ("up", "down"),
    ("rich", "poor"),
];

/// People.
pub(super) const PEOPLE: &[&str] = &["Ann", "Tom", "Sam", "Eva", "Ben", "Mia"];
