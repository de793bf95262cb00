//! What pages say: a table for each language. A text that one of them lacks does not compile.

use counterfoil_core::language::Languages;
use counterfoil_core::password_policy::TooWeak;

/// The texts in one language.
pub(crate) struct Words {
    /// Its tag (BCP 47).
    pub(crate) lang: &'static str,
    pub(crate) username: &'static str,
    pub(crate) email: &'static str,
    pub(crate) email_optional: &'static str,
    pub(crate) password: &'static str,
    pub(crate) new_password: &'static str,
    /// From how many characters on.
    pub(crate) password_hint: fn(usize) -> String,

    pub(crate) register: &'static str,
    pub(crate) register_submit: &'static str,
    pub(crate) registered: &'static str,
    /// The user name.
    pub(crate) registered_as: fn(&str) -> String,
    pub(crate) registered_mail: &'static str,

    pub(crate) look_at_mail: &'static str,
    /// The address.
    pub(crate) proof_asked: fn(&str) -> String,

    pub(crate) confirm: &'static str,
    /// The address and the user name.
    pub(crate) confirm_ask: fn(&str, &str) -> String,
    /// The same.
    pub(crate) change_ask: fn(&str, &str) -> String,
    pub(crate) not_you: &'static str,
    pub(crate) confirm_submit: &'static str,
    pub(crate) confirmed: &'static str,
    /// The address and the user name.
    pub(crate) confirmed_as: fn(&str, &str) -> String,

    pub(crate) undo: &'static str,
    /// The address and the user name.
    pub(crate) undo_ask: fn(&str, &str) -> String,
    pub(crate) undo_submit: &'static str,
    pub(crate) undone: &'static str,
    /// The address.
    pub(crate) undone_mail: fn(&str) -> String,

    pub(crate) resend: &'static str,
    pub(crate) resend_ask: &'static str,
    pub(crate) send: &'static str,
    /// The address.
    pub(crate) resent: fn(&str) -> String,

    pub(crate) forgot: &'static str,
    pub(crate) forgot_ask: &'static str,
    /// The address.
    pub(crate) forgot_sent: fn(&str) -> String,

    pub(crate) reset: &'static str,
    /// The user name.
    pub(crate) reset_ask: fn(&str) -> String,
    pub(crate) reset_submit: &'static str,
    pub(crate) reset_done: &'static str,
    pub(crate) reset_log_in: &'static str,

    pub(crate) link_dead: &'static str,
    pub(crate) link_dead_why: &'static str,
    pub(crate) another_link: &'static str,

    pub(crate) closed: &'static str,
    pub(crate) closed_why: &'static str,
    pub(crate) no_mail: &'static str,
    pub(crate) too_many: &'static str,
    pub(crate) too_many_why: &'static str,
    pub(crate) away: &'static str,
    pub(crate) away_why: &'static str,
    pub(crate) failed: &'static str,

    pub(crate) username_wrong: &'static str,
    pub(crate) username_taken: &'static str,
    pub(crate) email_wrong: &'static str,
    pub(crate) email_taken: &'static str,
    pub(crate) password_wrong: &'static str,
    pub(crate) password_unfit: &'static str,
    pub(crate) password_weak: fn(TooWeak) -> String,
}

impl Words {
    /// Those that `reader` reads; in English where there are none.
    pub(crate) fn for_reader(reader: &Languages) -> &'static Words {
        let tables = [&ENGLISH, &GERMAN];
        let tags = tables.map(|words| words.lang);
        let chosen = reader.choose(&tags);
        tables.into_iter().find(|words| chosen == Some(words.lang)).unwrap_or(&ENGLISH)
    }
}

static ENGLISH: Words = Words {
    lang: "en",
    username: "User name",
    email: "E-mail address",
    email_optional: "E-mail address (optional)",
    password: "Password",
    new_password: "New password",
    password_hint: |least| format!("At least {least} characters. A few words in a row are easy to remember."),

    register: "Create an account",
    register_submit: "Create account",
    registered: "Your account is there",
    registered_as: |username| format!("You can log in as {username} now."),
    registered_mail: "We have sent you a mail with a link that confirms your e-mail address.",

    look_at_mail: "Look at your mail",
    proof_asked: |email| format!("We have sent a mail to {email}. It says how to go on."),

    confirm: "Confirm your e-mail address",
    confirm_ask: |email, username| {
        format!("Is {email} the address of your account {username}? Then confirm it with the password of that account.")
    },
    change_ask: |email, username| {
        format!(
            "Shall {email} become the address of your account {username}? Then confirm it with the password of that account."
        )
    },
    not_you: "If you did not ask for this, close this page. Nothing will happen.",
    confirm_submit: "Confirm",
    confirmed: "Your address is confirmed",
    confirmed_as: |email, username| format!("{email} is the address of your account {username}."),

    undo: "Take back the change of address",
    undo_ask: |email, username| {
        format!(
            "The account {username} gets the address {email} back. It is signed out everywhere, its API keys end, and its \
             password opens nothing any more. We mail you a link to choose another."
        )
    },
    undo_submit: "Take it back",
    undone: "The change was taken back",
    undone_mail: |email| format!("We have sent a mail to {email} with a link to choose a new password."),

    resend: "Confirm your e-mail address",
    resend_ask: "Enter the address that you registered with. We mail you another link to confirm it.",
    send: "Send the link",
    resent: |email| format!("If {email} waits to be confirmed, a mail is on its way there."),

    forgot: "Forgot your password?",
    forgot_ask: "Enter the e-mail address of your account. We mail you a link to choose a new password.",
    forgot_sent: |email| format!("If {email} belongs to an account, a mail is on its way there."),

    reset: "Choose a new password",
    reset_ask: |username| format!("For the account {username}. It will be signed out on all devices."),
    reset_submit: "Save the new password",
    reset_done: "Your password is changed",
    reset_log_in: "You are signed out on all devices. Log in with the new password.",

    link_dead: "This link does not work any more",
    link_dead_why: "It has been used, or is too old, or is not complete.",
    another_link: "Have another link sent",

    closed: "Registration is closed",
    closed_why: "Nobody can create an account here.",
    no_mail: "This needs e-mail, and none is sent here.",
    too_many: "That was often",
    too_many_why: "Please wait for a while, and then try again.",
    away: "That does not work right now",
    away_why: "It is not your fault, and nothing was changed. Please try again in a moment.",
    failed: "That did not work",

    username_wrong: "This cannot be a user name here.",
    username_taken: "Somebody has this user name already.",
    email_wrong: "This is not an e-mail address.",
    email_taken: "Somebody else logs in by this address.",
    password_wrong: "That is not the password.",
    password_unfit: "This cannot be a password here.",
    password_weak: |why| match why {
        TooWeak::TooShort { least } => format!("A password has at least {least} characters."),
        TooWeak::Common => "Too many people have this password, or one much like it.".to_owned(),
        TooWeak::Expected => "This is too close to your name, your address or the name of this site.".to_owned(),
        TooWeak::Pattern => "This is a plain sequence, or one piece again and again.".to_owned(),
    },
};

static GERMAN: Words = Words {
    lang: "de",
    username: "Benutzername",
    email: "E-Mail-Adresse",
    email_optional: "E-Mail-Adresse (freiwillig)",
    password: "Passwort",
    new_password: "Neues Passwort",
    password_hint: |least| {
        format!("Mindestens {least} Zeichen. Ein paar Wörter hintereinander lassen sich leicht merken.")
    },

    register: "Konto anlegen",
    register_submit: "Konto anlegen",
    registered: "Ihr Konto ist angelegt",
    registered_as: |username| format!("Sie können sich jetzt als {username} anmelden."),
    registered_mail: "Wir haben Ihnen eine E-Mail mit einem Link geschickt, der Ihre E-Mail-Adresse bestätigt.",

    look_at_mail: "Bitte sehen Sie in Ihre E-Mails",
    proof_asked: |email| format!("Wir haben eine E-Mail an {email} geschickt. Darin steht, wie es weitergeht."),

    confirm: "E-Mail-Adresse bestätigen",
    confirm_ask: |email, username| {
        format!(
            "Ist {email} die Adresse Ihres Kontos {username}? Dann bestätigen Sie das mit dem Passwort dieses Kontos."
        )
    },
    change_ask: |email, username| {
        format!(
            "Soll {email} die Adresse Ihres Kontos {username} werden? Dann bestätigen Sie das mit dem Passwort dieses Kontos."
        )
    },
    not_you: "Wenn Sie das nicht wollten, schließen Sie diese Seite. Es geschieht dann nichts.",
    confirm_submit: "Bestätigen",
    confirmed: "Ihre Adresse ist bestätigt",
    confirmed_as: |email, username| format!("{email} ist die Adresse Ihres Kontos {username}."),

    undo: "Adressänderung zurücknehmen",
    undo_ask: |email, username| {
        format!(
            "Das Konto {username} bekommt die Adresse {email} zurück. Es wird überall abgemeldet, seine API-Schlüssel werden \
             ungültig, und sein Passwort öffnet nichts mehr. Wir schicken Ihnen einen Link, mit dem Sie ein neues wählen."
        )
    },
    undo_submit: "Zurücknehmen",
    undone: "Die Änderung ist zurückgenommen",
    undone_mail: |email| format!("Wir haben eine E-Mail an {email} geschickt, mit einem Link für ein neues Passwort."),

    resend: "E-Mail-Adresse bestätigen",
    resend_ask: "Geben Sie die Adresse ein, mit der Sie sich registriert haben. Wir schicken Ihnen noch einen Link.",
    send: "Link schicken",
    resent: |email| format!("Wenn {email} noch bestätigt werden muss, ist eine E-Mail dorthin unterwegs."),

    forgot: "Passwort vergessen?",
    forgot_ask: "Geben Sie die E-Mail-Adresse Ihres Kontos ein. Wir schicken Ihnen einen Link für ein neues Passwort.",
    forgot_sent: |email| format!("Wenn {email} zu einem Konto gehört, ist eine E-Mail dorthin unterwegs."),

    reset: "Neues Passwort wählen",
    reset_ask: |username| format!("Für das Konto {username}. Es wird auf allen Geräten abgemeldet."),
    reset_submit: "Neues Passwort speichern",
    reset_done: "Ihr Passwort ist geändert",
    reset_log_in: "Sie sind auf allen Geräten abgemeldet. Melden Sie sich mit dem neuen Passwort an.",

    link_dead: "Dieser Link funktioniert nicht mehr",
    link_dead_why: "Er wurde schon benutzt, ist zu alt oder nicht vollständig.",
    another_link: "Einen neuen Link schicken lassen",

    closed: "Keine Registrierung",
    closed_why: "Hier kann niemand selbst ein Konto anlegen.",
    no_mail: "Dafür braucht es E-Mail, und hier wird keine verschickt.",
    too_many: "Das war oft",
    too_many_why: "Bitte warten Sie eine Weile und versuchen Sie es dann noch einmal.",
    away: "Das geht gerade nicht",
    away_why: "Es liegt nicht an Ihnen, und es wurde nichts geändert. Bitte versuchen Sie es gleich noch einmal.",
    failed: "Das hat nicht geklappt",

    username_wrong: "Das kann hier kein Benutzername sein.",
    username_taken: "Diesen Benutzernamen hat schon jemand.",
    email_wrong: "Das ist keine E-Mail-Adresse.",
    email_taken: "Mit dieser Adresse meldet sich schon jemand anders an.",
    password_wrong: "Das ist nicht das Passwort.",
    password_unfit: "Das kann hier kein Passwort sein.",
    password_weak: |why| match why {
        TooWeak::TooShort { least } => format!("Ein Passwort hat mindestens {least} Zeichen."),
        TooWeak::Common => "Dieses Passwort, oder fast dieses, haben zu viele Menschen.".to_owned(),
        TooWeak::Expected => "Das ist zu nah an Ihrem Namen, Ihrer Adresse oder dem Namen dieser Seite.".to_owned(),
        TooWeak::Pattern => "Das ist eine einfache Folge oder ein Stück immer wieder.".to_owned(),
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_the_language_that_they_read_best_and_else_english() {
        let lang = |accept| Words::for_reader(&Languages::of(None, Some(accept))).lang;
        assert_eq!(
            [lang("de-AT"), lang("fr, de;q=0.5, en;q=0.1"), lang("en, de"), lang("fr"), lang("")],
            ["de", "de", "en", "en", "en"]
        );
    }
}
