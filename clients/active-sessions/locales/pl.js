// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("pl", {
title: "Gdzie jesteś zalogowany",
intro: "Wyloguj każde urządzenie, którego nie rozpoznajesz.",
count: {
one: "{n} aktywna sesja",
few: "{n} aktywne sesje",
many: "{n} aktywnych sesji",
other: "{n} aktywnych sesji"
},
thisDevice: "To urządzenie",
unknownDevice: "Nieznane urządzenie",
now: "Aktywne teraz",
justNow: "przed chwilą",
used: "Aktywne {when}",
begun: "Zalogowano {when}",
ends: "Wygasa {when}",
facts: "Szczegóły",
grouped: {
one: "{n} sesja",
few: "{n} sesje",
many: "{n} sesji",
other: "{n} sesji"
},
unfold: "Pokaż każdą z nich",
endAll: "Wyloguj wszystkie ({n})",
endAllOf: "Wyloguj wszystkie ({n}): {device}",
seats: {
one: "{n} miejsce w użyciu",
few: "{n} miejsca w użyciu",
many: "{n} miejsc w użyciu",
other: "{n} miejsc w użyciu"
},
lastFrom: "Ostatnie użycie: {place}",
rename: "Zmień nazwę",
renameOf: "Zmień nazwę: {device}",
nameOf: "Nazwa: {device}",
save: "Zapisz",
signOut: "Wyloguj",
signOutOf: "Wyloguj: {device}",
ask: "Wylogować: {device}?",
askEffect: "Trzeba będzie się tam zalogować ponownie.",
askHere: "Wylogować się z tego urządzenia?",
askHereEffect: "Trzeba będzie zalogować się tu ponownie.",
askSeats: {
one: "Jego miejsce się zwolni.",
few: "Jego {n} miejsca się zwolnią.",
many: "Jego {n} miejsc się zwolni.",
other: "Jego {n} miejsc się zwolni."
},
askAll: "Wylogować wszystkie sesje ({n}): {device}?",
askAllEffect: "Trzeba będzie się tam zalogować ponownie.",
askOthers: {
one: "Wylogować {n} inne urządzenie?",
few: "Wylogować {n} inne urządzenia?",
many: "Wylogować {n} innych urządzeń?",
other: "Wylogować {n} innych urządzeń?"
},
askOthersEffect: {
one: "Trzeba będzie się tam zalogować ponownie.",
few: "Trzeba będzie się tam zalogować ponownie.",
many: "Trzeba będzie się tam zalogować ponownie.",
other: "Trzeba będzie się tam zalogować ponownie."
},
signingOut: "Wylogowywanie…",
done: "Wylogowano: {device}.",
doneBefore: "To urządzenie było już wylogowane: {device}.",
doneOthers: {
one: "Wylogowano {n} inne urządzenie.",
few: "Wylogowano {n} inne urządzenia.",
many: "Wylogowano {n} innych urządzeń.",
other: "Wylogowano {n} innych urządzeń."
},
freed: {
one: "{n} miejsce jest znów wolne.",
few: "{n} miejsca są znów wolne.",
many: "{n} miejsc jest znów wolnych.",
other: "{n} miejsc jest znów wolnych."
},
others: "Wyloguj inne urządzenia",
noOthers: "Żadne inne urządzenie nie jest zalogowane.",
cancel: "Anuluj",
refresh: "Odśwież",
refreshed: "Aktualne.",
retry: "Spróbuj ponownie",
more: "Pokaż więcej",
shown: "Pokazano {n} z {total}",
loading: "Wczytywanie sesji…",
emptyTitle: "Brak aktywnych sesji",
emptyText: "Gdy zalogujesz się na urządzeniu, pojawi się ono tutaj.",
errorTitle: "Nie można teraz pokazać Twoich sesji",
errorText: "Nadal jesteś zalogowany i nic się nie zmieniło.",
offline: "Brak połączenia z siecią.",
retrying: {
one: "Kolejna próba za {n} sekundę.",
few: "Kolejna próba za {n} sekundy.",
many: "Kolejna próba za {n} sekund.",
other: "Kolejna próba za {n} sekund."
},
stale: "Ta lista może być nieaktualna.",
failed: "Nie wiadomo, czy to się udało. Można bezpiecznie spróbować ponownie.",
reauth: "Najpierw potwierdź, że to Ty: zaloguj się ponownie.",
goneTitle: "Wylogowano Cię",
goneText: "Zaloguj się ponownie, aby zobaczyć, gdzie jeszcze jesteś zalogowany.",
signIn: "Zaloguj się ponownie",
onlyHere: "Jesteś zalogowany tylko tutaj. Gdy zalogujesz się na innym urządzeniu, pojawi się ono tutaj.",
notSetUp: "Aktywne sesje nie zostały jeszcze skonfigurowane w tej witrynie, więc nie ma czego pokazać. Jej administratorzy zostali powiadomieni.",
reasons: {
signed_out_elsewhere: "To urządzenie wylogowano z innego.",
signed_out_everywhere: "Wylogowano wszystkie urządzenia na Twoje żądanie.",
signed_out: "Wylogowano na Twoje żądanie.",
revoked: "Administratorzy witryny wylogowali to urządzenie.",
signed_out_by_operator: "Administratorzy witryny wylogowali to urządzenie.",
cut_off: "Administratorzy witryny wylogowali wszystkich.",
idle: "To urządzenie nie było przez jakiś czas używane.",
expired: "Twoje logowanie wygasło."
}
});
