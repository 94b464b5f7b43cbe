// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("it", {
title: "Dove hai effettuato l’accesso",
intro: "Disconnetti ogni dispositivo che non riconosci.",
count: {
one: "{n} sessione attiva",
other: "{n} sessioni attive"
},
thisDevice: "Questo dispositivo",
unknownDevice: "Dispositivo sconosciuto",
now: "Attivo ora",
justNow: "proprio ora",
used: "Attivo {when}",
begun: "Accesso {when}",
ends: "Scade {when}",
facts: "Dettagli",
grouped: {
one: "{n} sessione",
other: "{n} sessioni"
},
unfold: "Mostrale una per una",
endAll: "Disconnetti tutte e {n}",
endAllOf: "Disconnetti tutte e {n} di {device}",
seats: {
one: "{n} posto in uso",
other: "{n} posti in uso"
},
lastFrom: "Ultimo uso da {place}",
rename: "Rinomina",
renameOf: "Rinomina {device}",
nameOf: "Nome per {device}",
save: "Salva",
signOut: "Disconnetti",
signOutOf: "Disconnetti {device}",
ask: "Disconnettere {device}?",
askEffect: "Lì servirà un nuovo accesso.",
askHere: "Vuoi disconnetterti da questo dispositivo?",
askHereEffect: "Qui dovrai accedere di nuovo.",
askSeats: {
one: "Il suo posto si libera.",
other: "I suoi {n} posti si liberano."
},
askAll: "Disconnettere tutte le {n} sessioni di {device}?",
askAllEffect: "Su ciascuna servirà un nuovo accesso.",
askOthers: {
one: "Disconnettere {n} altro dispositivo?",
other: "Disconnettere altri {n} dispositivi?"
},
askOthersEffect: {
one: "Lì servirà un nuovo accesso.",
other: "Su ciascuno servirà un nuovo accesso."
},
signingOut: "Disconnessione…",
done: "{device} è disconnesso.",
doneBefore: "{device} era già disconnesso.",
doneOthers: {
one: "{n} altro dispositivo è disconnesso.",
other: "Altri {n} dispositivi sono disconnessi."
},
freed: {
one: "{n} posto è di nuovo libero.",
other: "{n} posti sono di nuovo liberi."
},
others: "Disconnetti gli altri dispositivi",
noOthers: "Nessun altro dispositivo ha effettuato l’accesso.",
cancel: "Annulla",
refresh: "Aggiorna",
refreshed: "Aggiornato.",
retry: "Riprova",
more: "Mostra altro",
shown: "Mostrate {n} di {total}",
loading: "Caricamento delle tue sessioni…",
emptyTitle: "Nessuna sessione attiva",
emptyText: "Quando accedi da un dispositivo, appare qui.",
errorTitle: "Al momento non è possibile mostrare le tue sessioni",
errorText: "Il tuo accesso è ancora valido e nulla è cambiato.",
offline: "Non c’è connessione alla rete.",
retrying: {
one: "Nuovo tentativo tra {n} secondo.",
other: "Nuovo tentativo tra {n} secondi."
},
stale: "Questo elenco potrebbe non essere aggiornato.",
failed: "Non sappiamo se ha funzionato. Puoi riprovare senza rischi.",
reauth: "Prima conferma che sei tu: accedi di nuovo.",
goneTitle: "Sei stato disconnesso",
goneText: "Accedi di nuovo per vedere dove altro hai effettuato l’accesso.",
signIn: "Accedi di nuovo",
onlyHere: "Hai effettuato l’accesso solo qui. Quando accedi da un altro dispositivo, appare qui.",
notSetUp: "Le sessioni attive non sono ancora configurate su questo sito, quindi non c’è nulla da mostrare. I gestori sono stati avvisati.",
reasons: {
signed_out_elsewhere: "Questo dispositivo è stato disconnesso da un altro.",
signed_out_everywhere: "Ti sei disconnesso ovunque.",
signed_out: "Ti sei disconnesso.",
revoked: "I gestori del sito hanno disconnesso questo dispositivo.",
signed_out_by_operator: "I gestori del sito hanno disconnesso questo dispositivo.",
cut_off: "I gestori del sito hanno disconnesso tutti.",
idle: "Questo dispositivo non veniva usato da un po’.",
expired: "Il tuo accesso era scaduto."
}
});
