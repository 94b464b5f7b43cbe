"""Sign in, count, sign out everywhere else. Run: flask --app docs/examples/flask_app.py run"""

from html import escape
from secrets import compare_digest

from flask import Flask, abort, redirect, request, session

from sojourn.adapters.account import Account
from sojourn.adapters.flask import Sojourn, require_recent_sign_in, require_session, visit

app = Flask(__name__)
app.config["SOJOURN_SIGN_IN_URL"] = "/"
# SQLite in ./sojourn-data unless SOJOURN_STORE says otherwise; and the page /account/security
Sojourn(app, account=Account(site_name="Counter", sign_in_url="/"))

USERS = {"ann": "correct horse battery staple"}  # yours: a table, with hashes

FORM = """<form method="post" action="/sign-in">
<label>Name <input name="user"></label>
<label>Password <input name="password" type="password"></label>
<button>Sign in</button></form>"""


@app.get("/")
def home():
    if visit.user_id is None:
        return FORM
    count = session.get("count", 0)
    devices = "".join(
        f"<li>{escape(each.device.user_agent or 'unknown') if each.device else 'unknown'}</li>"
        for each in visit.others()
    )
    return f"""<p>Hello {escape(visit.user_id)}, you have counted to {count}.</p>
<form method="post" action="/count"><button>Count</button></form>
<p><a href="/account/security">Where you are signed in</a></p>
<p>You are signed in elsewhere, too:</p><ul>{devices}</ul>
<form method="post" action="/sign-out-others"><button>Sign out there</button></form>
<form method="post" action="/sign-out"><button>Sign out</button></form>"""


@app.post("/sign-in")
def sign_in():
    user, password = request.form["user"], request.form["password"]
    if not compare_digest(USERS.get(user, "").encode(), password.encode()):
        abort(403)
    visit.begin(user)
    return redirect("/", 303)


@app.post("/count")
@require_session
def count():
    session["count"] = session.get("count", 0) + 1
    return redirect("/", 303)


@app.post("/sign-out-others")
@require_recent_sign_in(minutes=60)
def sign_out_others():
    return {"ended": len(visit.end_others())}


@app.post("/sign-out")
def sign_out():
    visit.end()
    return redirect("/", 303)
