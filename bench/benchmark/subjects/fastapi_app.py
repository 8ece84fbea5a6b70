"""FastAPI with an SQLAlchemy session for each request: a dependency with yield, which commits at its end.

One uvicorn worker with uvloop and httptools where they are installed, as `pip install uvicorn[standard]` gives it. The same routes as
those of the other subjects (see statements.ts). Takes the setup as JSON, prints its port, and ends with its input.
"""

import json
import os
import random
import socket
import sys
import threading

import uvicorn
from fastapi import Depends, FastAPI, Header
from sqlalchemy import BigInteger, Column, Identity, Integer, Text, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import declarative_base, sessionmaker

setup = json.loads(sys.argv[1])
ACCOUNTS = setup["accounts"]
TENANT = setup["tenant"]
TIMEOUT = str(setup["timeout"])

Base = declarative_base()


class Account(Base):
    __tablename__ = "accounts"
    id = Column(Integer, primary_key=True)
    owner = Column(Text, nullable=False)
    balance = Column(Integer, nullable=False)


class Entry(Base):
    __tablename__ = "entries"
    id = Column(BigInteger, Identity(always=True), primary_key=True)
    account = Column(Integer, nullable=False)
    amount = Column(Integer, nullable=False)


engine = create_async_engine(setup["url"], pool_size=setup["max"], max_overflow=0)
Session = sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
AutocommitSession = sessionmaker(
    engine.execution_options(isolation_level="AUTOCOMMIT"), class_=AsyncSession, expire_on_commit=False
)


async def transaction():
    async with Session.begin() as session:
        yield session


async def read_only_transaction():
    async with Session.begin() as session:
        await session.connection(execution_options={"postgresql_readonly": True})
        yield session


async def autocommit():
    async with AutocommitSession() as session:
        yield session


async def transaction_of_user(x_user: str = Header()):
    async with Session.begin() as session:
        await session.execute(
            select(
                func.set_config("app.user_id", x_user, True),
                func.set_config("app.tenant_id", TENANT, True),
                func.set_config("statement_timeout", TIMEOUT, True),
            )
        )
        yield session


def random_id():
    return random.randint(1, ACCOUNTS)


async def read(session):
    statement = select(Account.id, Account.owner, Account.balance).where(Account.id == random_id())
    return (await session.execute(statement)).one()._asdict()


app = FastAPI()


@app.get("/plain")
async def get_plain():
    return {"hello": "world"}


@app.get("/read")
async def get_read(session: AsyncSession = Depends(transaction)):
    return await read(session)


@app.get("/read-only")
async def get_read_only(session: AsyncSession = Depends(read_only_transaction)):
    return await read(session)


@app.get("/autocommit")
async def get_autocommit(session: AsyncSession = Depends(autocommit)):
    return await read(session)


@app.post("/write", status_code=201)
async def post_write(session: AsyncSession = Depends(transaction)):
    account, amount = random_id(), random.randint(1, 100)
    await session.execute(
        update(Account).where(Account.id == account).values(balance=Account.balance + amount),
        execution_options={"synchronize_session": False},
    )
    await session.execute(insert(Entry.__table__).values(account=account, amount=amount).inline())
    return {"account": account, "amount": amount}


# One after the other: a session must not be used by two tasks at a time.
@app.get("/page")
async def get_page(session: AsyncSession = Depends(transaction)):
    return [await read(session) for _ in range(5)]


@app.get("/settings")
async def get_settings(session: AsyncSession = Depends(transaction_of_user)):
    statement = select(
        Account.id,
        Account.owner,
        Account.balance,
        func.current_setting("app.user_id").label("user"),
        func.current_setting("app.tenant_id").label("tenant"),
        func.current_setting("statement_timeout").label("timeout"),
    ).where(Account.id == random_id())
    return (await session.execute(statement)).one()._asdict()


def end_with_input():
    sys.stdin.read()
    os._exit(0)


listener = socket.socket()
listener.bind(("127.0.0.1", 0))
threading.Thread(target=end_with_input, daemon=True).start()
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, access_log=False, log_level="warning")).run(sockets=[listener])
