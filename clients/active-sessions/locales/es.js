// Put together from clients/active-sessions/src by build.py there: change that.
import { translate } from "../sojourn-active-sessions.js";
translate("es", {
title: "Dónde tienes la sesión iniciada",
intro: "Cierra la sesión de cualquier dispositivo que no reconozcas.",
count: {
one: "{n} sesión activa",
other: "{n} sesiones activas"
},
thisDevice: "Este dispositivo",
unknownDevice: "Dispositivo desconocido",
now: "Activo ahora",
justNow: "ahora mismo",
used: "Activo {when}",
begun: "Sesión iniciada {when}",
ends: "Caduca {when}",
facts: "Detalles",
grouped: {
one: "{n} sesión",
other: "{n} sesiones"
},
unfold: "Mostrar cada una",
endAll: "Cerrar las {n}",
endAllOf: "Cerrar las {n} de {device}",
seats: {
one: "{n} puesto en uso",
other: "{n} puestos en uso"
},
lastFrom: "Último uso desde {place}",
rename: "Cambiar nombre",
renameOf: "Cambiar el nombre de {device}",
nameOf: "Nombre para {device}",
save: "Guardar",
signOut: "Cerrar sesión",
signOutOf: "Cerrar la sesión de {device}",
ask: "¿Cerrar la sesión de {device}?",
askEffect: "Tendrá que volver a iniciar sesión.",
askHere: "¿Cerrar la sesión de este dispositivo?",
askHereEffect: "Tendrás que volver a iniciar sesión aquí.",
askSeats: {
one: "Su puesto queda libre.",
other: "Sus {n} puestos quedan libres."
},
askAll: "¿Cerrar las {n} sesiones de {device}?",
askAllEffect: "Tendrán que volver a iniciar sesión.",
askOthers: {
one: "¿Cerrar la sesión del otro dispositivo?",
other: "¿Cerrar la sesión de otros {n} dispositivos?"
},
askOthersEffect: {
one: "Tendrá que volver a iniciar sesión.",
other: "Tendrán que volver a iniciar sesión."
},
signingOut: "Cerrando la sesión…",
done: "La sesión de {device} está cerrada.",
doneBefore: "La sesión de {device} ya estaba cerrada.",
doneOthers: {
one: "Se ha cerrado la sesión del otro dispositivo.",
other: "Se ha cerrado la sesión de otros {n} dispositivos."
},
freed: {
one: "{n} puesto vuelve a estar libre.",
other: "{n} puestos vuelven a estar libres."
},
others: "Cerrar la sesión de los demás dispositivos",
noOthers: "Ningún otro dispositivo tiene la sesión iniciada.",
cancel: "Cancelar",
refresh: "Actualizar",
refreshed: "Al día.",
retry: "Reintentar",
more: "Mostrar más",
shown: "Se muestran {n} de {total}",
loading: "Cargando tus sesiones…",
emptyTitle: "No hay sesiones activas",
emptyText: "Cuando inicies sesión en un dispositivo, aparecerá aquí.",
errorTitle: "Ahora mismo no se pueden mostrar tus sesiones",
errorText: "Tu sesión sigue iniciada y nada ha cambiado.",
offline: "No hay conexión a la red.",
retrying: {
one: "Nuevo intento en {n} segundo.",
other: "Nuevo intento en {n} segundos."
},
stale: "Puede que esta lista no esté al día.",
failed: "No sabemos si ha funcionado. Puedes volver a intentarlo sin riesgo.",
reauth: "Confirma primero que eres tú: vuelve a iniciar sesión.",
goneTitle: "Se ha cerrado tu sesión",
goneText: "Vuelve a iniciar sesión para ver en qué otros sitios la tienes iniciada.",
signIn: "Volver a iniciar sesión",
onlyHere: "Solo tienes la sesión iniciada aquí. Cuando inicies sesión en otro dispositivo, aparecerá aquí.",
notSetUp: "Las sesiones activas aún no están configuradas en este sitio, así que no hay nada que mostrar. Se ha avisado a sus responsables.",
reasons: {
signed_out_elsewhere: "La sesión de este dispositivo se cerró desde otro.",
signed_out_everywhere: "Cerraste la sesión en todas partes.",
signed_out: "Cerraste la sesión.",
revoked: "Los responsables del sitio cerraron la sesión de este dispositivo.",
signed_out_by_operator: "Los responsables del sitio cerraron la sesión de este dispositivo.",
cut_off: "Los responsables del sitio cerraron la sesión de todos.",
idle: "Este dispositivo llevaba un tiempo sin usarse.",
expired: "Tu sesión había caducado."
}
});
